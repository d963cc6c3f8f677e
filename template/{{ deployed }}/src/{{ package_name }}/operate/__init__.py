"""What exists around the service: made once, checked when odd, destroyed at the end."""
