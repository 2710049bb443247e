#!/usr/bin/env python3
"""Writes data/orders.csv: a year of orders of an invented shop, the same on every machine.

Run it from anywhere; it needs nothing but Python 3. It uses only `random.random`, whose sequence for a seed is part
of Python's promise, and computes money in whole cents.
"""

import csv
import random
from datetime import date, timedelta
from pathlib import Path

SEED = 20250101
ORDERS = 10_400
FIRST_DAY = date(2025, 1, 1)
DAYS = 365

# Weight, name.
REGIONS = [(30, "North"), (24, "South"), (21, "West"), (15, "East"), (10, "Islands")]

# Orders in each month against the mean: gardens in spring, presents in December.
SEASON = [78, 76, 92, 101, 112, 104, 93, 90, 98, 104, 121, 141]

# Category, product, price in cents, weight, the first and last month in which it sells well.
PRODUCTS = [
    ("Kitchen", 'Frying pan, 28 cm', 3490, 12, 1, 12),
    ("Kitchen", 'Kettle "Harbour", 1.2 l', 5900, 10, 9, 12),
    ("Kitchen", "Bread knife", 2450, 8, 1, 12),
    ("Kitchen", "Enamel mug, set of 4", 2880, 9, 10, 12),
    ("Bedding", "Linen sheet, double", 8900, 6, 4, 8),
    ("Bedding", 'Wool blanket "Fjord"', 11900, 5, 10, 2),
    ("Bedding", "Pillow, buckwheat", 3950, 6, 1, 12),
    ("Lighting", 'Desk lamp "Anchor", brass', 12900, 5, 9, 3),
    ("Lighting", "Lantern, candle", 1990, 10, 10, 12),
    ("Lighting", "Bulb, warm white, 3-pack", 1275, 11, 10, 2),
    ("Garden", "Watering can, 9 l", 2795, 9, 3, 8),
    ("Garden", "Pruning shears", 3320, 8, 3, 6),
    ("Garden", "Oak bench, 1.5 m", 34900, 2, 4, 7),
    ("Paper", 'Notebook "Tide", dotted', 1450, 12, 8, 9),
    ("Paper", "Wrapping paper, 5 m", 690, 10, 11, 12),
    ("Paper", "Fountain pen", 4900, 4, 1, 12),
]

FIRST_NAMES = "Ada Bruno Clara Dario Elif Femi Greta Hugo Ines Jonas Kaya Luis Mira Nora Oskar Priya Rosa Sami".split()
LAST_NAMES = ["Okafor", "Lindqvist", "Moreau", "O'Brien", "de Vries", "Kowalska", "Tanaka", "Weiss", "Silva", "Haddad"]

HEADER = ["order_id", "date", "month", "region", "category", "product", "customer", "quantity", "unit_price", "amount"]


def pick(weights):
    """Returns an index, chosen by weight."""
    at = random.random() * sum(weights)
    for index, weight in enumerate(weights):
        at -= weight
        if at < 0:
            return index
    return len(weights) - 1


def chance(share):
    return random.random() < share


def sells(product, month):
    _, _, _, weight, first, last = product
    is_season = first <= month <= last if first <= last else month >= first or month <= last
    return weight * (3 if is_season else 1)


def money(cents):
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02}"


def order(number, day):
    category, product, price, *_ = PRODUCTS[pick([sells(product, day.month) for product in PRODUCTS])]
    quantity = [1, 2, 3, 6, 12][pick([70, 18, 7, 4, 1])]
    cents = price * quantity
    if quantity >= 6:
        cents = cents * 9 // 10  # Ten percent off by the half dozen.
    if chance(0.031):
        quantity, cents = -quantity, -cents  # Sent back.
    last, first = LAST_NAMES[pick([1] * len(LAST_NAMES))], FIRST_NAMES[pick([1] * len(FIRST_NAMES))]
    return [
        f"SO-{100_000 + number}",
        day.isoformat(),
        day.strftime("%Y-%m"),
        "" if chance(0.012) else REGIONS[pick([weight for weight, _ in REGIONS])][1],
        category,
        product,
        "" if chance(0.02) else f"{last}, {first}",
        quantity,
        money(price),
        "" if chance(0.004) else money(cents),
    ]


def main():
    random.seed(SEED)
    days = [FIRST_DAY + timedelta(days=n) for n in range(DAYS)]
    weights = [SEASON[day.month - 1] for day in days]
    ordered = sorted(days[pick(weights)] for _ in range(ORDERS))
    path = Path(__file__).resolve().parent / "data" / "orders.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(order(number, day) for number, day in enumerate(ordered, start=1))


if __name__ == "__main__":
    main()
