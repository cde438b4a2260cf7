"""Secrets are neither recorded nor taken where they would be."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgen.data.text_files import Jsonl, TextFiles
from jaxgen.errors import DataError
from jaxgen.redaction import redacted
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sweeps.leases import acquire


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:pa55@host/x", "https://***@host/x"),
        ("--from=https://ghp_abc@host/x and more", "--from=https://***@host/x and more"),
        ("s3://bucket/a?X-Amz-Signature=abc&b=1", "s3://bucket/a?X-Amz-Signature=***&b=1"),
        ("Wandb(api_key='a b', project='p')", "Wandb(api_key=***, project='p')"),
        ("--gin.a.hf_token=abc --gin.train.steps=3", "--gin.a.hf_token=*** --gin.train.steps=3"),
        ("password: hunter2", "password: ***"),
        ("--max_tokens=4 --gin.tokenizer_codec.path=own.json", None),
        ("s3://bucket/mail@example.org/*.jsonl gs://b/c", None),
        ("tokens_per_second=3 token_share=1 signature", None),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_left_out(text, expected):
    assert redacted(text) == (text if expected is None else expected)
    assert redacted(redacted(text)) == redacted(text)


@given(secret=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=12))
def test_no_part_of_a_secret_is_left(secret):
    text = f"jaxgen train --gin.TEXT=https://{secret}@host/ --gin.mine.api_key={secret}"
    assert secret not in redacted(text)


def test_a_source_takes_no_secret():
    for source in (TextFiles, Jsonl):
        with pytest.raises(DataError, match=r"https://\*\*\*@host") as refused:
            source("https://me:pa55@host/x.jsonl")
        assert "pa55" not in str(refused.value)


def test_an_attempt_records_no_secret(tmp_path):
    lease = acquire(RunDirectory(tmp_path), 0)
    assert lease is not None
    lease.release("failed", "https://me:pa55@host/x cannot be read")
    recorded = json.loads((tmp_path / "attempts" / "0001.json").read_text())
    assert recorded["why"] == "https://***@host/x cannot be read"
