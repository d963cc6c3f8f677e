"""What a release may be built from: no service has a client of this registry, so it is baked."""

TARGETS = ("baked",)
