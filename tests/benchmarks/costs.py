"""The table of docs/dataflow.md: what a million photos of 12 megapixels and 4.5 MB would cost and save.

python -m tests.benchmarks.costs
"""

from rich.filesize import decimal

from pipeline.estimate.costs import (
    STORAGE_PRICE,
    Plan,
    assumed_speed,
    hours_on_workers,
    usd_a_month,
    usd_on_workers,
)


def million_photos() -> str:
    """Rows of Markdown."""
    photos, megapixels, photo_bytes = 1_000_000, 12, 4_500_000
    saved_share, iterations, load_seconds = 0.847, 1, 0.18  # the mixed archive; its target; a core here
    saving = usd_a_month(photos * photo_bytes * saved_share, STORAGE_PRICE)
    rows = ["| L4 workers | hours | USD | saves | a month | paid back in |", "| --- " * 6 + "|"]
    for workers in (1, 8, 32):
        plan = Plan(workers=workers)
        speed = assumed_speed(iterations)
        hours = hours_on_workers(photos * megapixels * 1e6, photos * load_seconds, speed, plan)
        usd = usd_on_workers(hours, photos, plan)
        saved = f"{decimal(int(photos * photo_bytes * saved_share))} | {saving:.0f} USD"
        rows.append(f"| {workers} | {hours:.0f} | {usd:.0f} | {saved} | {usd / saving:.1f} months |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(million_photos())
