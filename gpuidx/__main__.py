# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m gpuidx``."""

if __name__ == "__main__":
    from gpuidx.cli import main

    main()
