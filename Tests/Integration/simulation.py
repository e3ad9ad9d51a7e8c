#!/usr/bin/env python3
"""100,000 simulated histories: no law may be broken, and every planted mistake must break one (Tests/Simulation).

    simulation.py [--histories N] [--limit SECONDS]

Fails when a history breaks a law, when a mistake is not found, or when the histories take longer than the limit. A seed that is named
is told line by line by ZEGEL_SIM_SEED=SEED .build/release/simulate.
"""
import argparse
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / ".build/release/simulate"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=100_000)
    parser.add_argument("--limit", type=float, default=120)
    options = parser.parse_args()
    begun = time.monotonic()
    histories = subprocess.run([PROGRAM, "--histories", str(options.histories)], check=False)
    took = time.monotonic() - begun
    flaws = subprocess.run([PROGRAM, "--flaws"], check=False)
    if took > options.limit:
        print(f"FAILS: {options.histories} histories took {took:.0f} s, more than {options.limit:.0f}")
    return int(histories.returncode != 0 or flaws.returncode != 0 or took > options.limit)


if __name__ == "__main__":
    sys.exit(main())
