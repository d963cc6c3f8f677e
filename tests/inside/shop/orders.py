"""Print 1,200 orders of fifty days as the shop's export has them."""

import random
from datetime import date, timedelta

print("Order date;Order;Customer No.;Express?;EUR;Pieces;Insured?;Stars;Sent back?")
draw = random.Random(0)  # noqa: S311
for n in range(1200):
    day = date(2026, 3, 1) + timedelta(days=n // 24)
    express, items, customer = draw.random() < 0.3, draw.randrange(1, 9), draw.randrange(5000)
    value, insured, stars = draw.expovariate(0.02) + 1, draw.choice("TF "), draw.choice("1345 ")
    back = draw.random() < 0.2 + 0.4 * express + 0.03 * items
    words = [f"{day:%Y-%m-%d}", n, f"{customer:04}", express, f"{value:.2f}".replace(".", ",")]
    words += [items, {"T": True, "F": False, " ": ""}[insured], stars.strip(), back]
    print(*words, sep=";")
