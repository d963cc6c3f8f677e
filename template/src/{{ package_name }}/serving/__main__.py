"""Start the service, collecting no garbage until it serves.

What is imported and loaded then stays, so looking through it found nothing: a tenth of the start.
"""

import gc

from ..errors import run_command

gc.disable()

if __name__ == "__main__":
    from .start import main

    run_command(main)
