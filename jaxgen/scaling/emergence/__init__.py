"""Is an emergent ability the model's or the metric's?"""
