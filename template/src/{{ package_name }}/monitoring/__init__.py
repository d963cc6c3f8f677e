"""Monitoring: what the model is asked today, beside what it was trained on."""
