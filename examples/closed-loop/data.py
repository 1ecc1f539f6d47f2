"""The world of the example: orders, and which of them are paid back.

Orders are drawn from a seed. `drifted` changes both what comes (another currency, more distant customers) and what it
means, so that a model that was trained before does worse, and one that is trained on the new orders does better.
"""

import numpy as np

FEATURES = ["age_days", "amount", "distance_km", "items"]
POSITIVE = "1"


def draw(rows, random, drifted=False):
    """Features by name, and labels: 1 is an order that is not paid back."""
    amount = random.lognormal(3.6, 0.8, rows) * (1.9 if drifted else 1.0)
    age_days = random.gamma(2.0, 150.0, rows)
    items = 1.0 + random.poisson(2.0, rows)
    distance_km = random.exponential(40.0, rows) * (2.5 if drifted else 1.0)
    risk = np.log(amount) - 3.6 - 0.004 * (age_days - 300.0)
    # What used to be harmless becomes the sign of a bad order.
    risk = 0.8 * risk + 0.012 * (distance_km - 100.0) if drifted else risk + 0.02 * (items - 3.0)
    labels = (random.uniform(size=rows) < 1.0 / (1.0 + np.exp(-1.8 * risk))).astype(int)
    columns = {"age_days": age_days, "amount": amount, "distance_km": distance_km, "items": items}
    return {name: columns[name].astype(np.float32) for name in FEATURES}, labels
