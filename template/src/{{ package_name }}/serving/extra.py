"""Routes of your own, which the service answers beside ours.

    @router.get("/contact")
    async def contact() -> dict[str, str]:
        return {"team": "flight-planning"}

What this imports must be installed where the service runs: the dependency group `extra-serving`.
"""

from fastapi import APIRouter

router = APIRouter()
