"""Pure functions of arrays and the frozen settings that set them; no parameters are held here."""
