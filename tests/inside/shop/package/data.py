"""The shop's export: columns of other names, days as text, numbers that begin with 0."""

from pathlib import Path

import pandas as pd


def load(path: Path) -> pd.DataFrame:
    """Read the orders."""
    orders = pd.read_csv(path, sep=";", decimal=",", dtype={"Customer No.": str})
    return orders.rename(
        columns={
            "Order date": "ordered",
            "Customer No.": "customer",
            "Express?": "express",
            "EUR": "value",
            "Pieces": "items",
            "Insured?": "insured",
            "Stars": "rating",
            "Sent back?": "returned",
        }
    )
