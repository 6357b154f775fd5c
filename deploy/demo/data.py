"""The target's data: a small shop with customers and their orders, the same at every start.

Nobody in it exists. Addresses end in domains kept for examples, card numbers have a right
check digit under a prefix that no bank issues, national ids are of a range never given out.
"""

from __future__ import annotations

import random
from datetime import date, timedelta

CUSTOMERS = 50
ORDERS = 200

_FIRST = """
    Aisha Anton Beatriz Björn Carmen Chidi Daniela Elif Emeka Farah Felix Giulia Hana Hugo Ines
    Ivan Jakob Jia Kofi Lena Luca Mateo Mei Nadia Noor Olga Oscar Priya Rafael Sofia
""".split()  # noqa: SIM905
_LAST = """
    Adeyemi Almeida Bauer Costa Demir Dubois Eriksen Fischer Garcia Haddad Ivanova Jensen Kaya
    Kowalski Laurent Lindqvist Moreau Nakamura Novak Okafor Petrov Ricci Santos Schmidt Silva
    Tanaka Varga Weber Yilmaz Zhang
""".split()  # noqa: SIM905
_CITIES = ("Berlin", "Bordeaux", "Kraków", "Leiden", "Lisboa", "Malmö", "Porto", "Torino", "Wien")
_ITEMS = {
    "desk lamp": 39,
    "espresso machine": 349,
    "headphones": 129,
    "keyboard": 89,
    "office chair": 279,
    "phone case": 19,
    "rucksack": 74,
    "running shoes": 110,
    "standing desk": 499,
    "water bottle": 24,
}
_STATUS = ("delivered",) * 6 + ("shipped",) * 2 + ("open",) * 2 + ("cancelled", "returned")
_ASCII = str.maketrans("öóéäü", "ooeau")

Customer = tuple[int, str, str, str, str, str]
Order = tuple[int, int, str, str, str, date]

SCHEMA = """
CREATE TABLE customers (
    id integer PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL,
    card_number text NOT NULL,
    national_id text NOT NULL,
    city text NOT NULL
);
CREATE TABLE orders (
    id integer PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customers,
    item text NOT NULL,
    amount numeric(10, 2) NOT NULL,
    status text NOT NULL,
    created date NOT NULL
);
"""


def customers() -> list[Customer]:
    """Rows of ``customers``: id, name, email, card_number, national_id, city."""
    chance = random.Random(2026)  # noqa: S311  # for variety, not for secrecy
    rows: list[Customer] = []
    for number in range(1, CUSTOMERS + 1):
        first, last = chance.choice(_FIRST), chance.choice(_LAST)
        mail = f"{first}.{last}{number}@example.{chance.choice(('com', 'net', 'org'))}"
        card = _with_check_digit(f"400000{chance.randrange(10**9):09d}")
        national = f"9{chance.randrange(100):02d}-{chance.randrange(1, 100):02d}-"
        national += f"{chance.randrange(1, 10**4):04d}"
        mail = mail.lower().translate(_ASCII)
        rows.append((number, f"{first} {last}", mail, card, national, chance.choice(_CITIES)))
    return rows


def orders() -> list[Order]:
    """Rows of ``orders``: id, customer_id, item, amount, status, created."""
    chance = random.Random(4711)  # noqa: S311  # for variety, not for secrecy
    rows: list[Order] = []
    for number in range(1, ORDERS + 1):
        item, price = chance.choice(list(_ITEMS.items()))
        amount = f"{price * chance.randrange(1, 4)}.{chance.choice(('00', '50', '90'))}"
        day = date(2026, 1, 5) + timedelta(days=number + chance.randrange(20))
        customer = chance.randrange(1, CUSTOMERS + 1)
        rows.append((number, customer, item, amount, chance.choice(_STATUS), day))
    return rows


def _with_check_digit(digits: str) -> str:
    """The digits with their Luhn digit behind."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return f"{digits}{-total % 10}"
