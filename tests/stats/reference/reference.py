"""Reference values from scipy and statsmodels, in an environment of their own (pip install scipy statsmodels), run here."""

import csv
import datetime
from pathlib import Path

import numpy as np
import scipy
import statsmodels
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import ttost_paired


def main() -> None:
    rows = []
    with Path("blocks.csv").open() as file:
        cells = [row for row in csv.DictReader(file) if row["layout"] == "complete"]
    values = np.zeros((4, 6))
    for row in cells:
        values[int(row["arm"]), int(row["seed"])] = float(row["value"])
    for arm in range(1, 4):
        differences = values[arm] - values[0]
        test = stats.permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=np.inf)
        rows.append(("signflip", "complete", arm, test.pvalue))
        rows.append(("tost", "margin_0.12", arm, ttost_paired(values[arm], values[0], -0.12, 0.12)[0]))
        rows.append(("paired_p", "complete", arm, stats.ttest_rel(values[arm], values[0]).pvalue))
    for number, p in enumerate(multipletests([0.04, 0.001, 0.02, 0.3, 0.011], method="holm")[1]):
        rows.append(("holm", "five", number + 1, p))
    for b, c in ((2, 9), (5, 5), (0, 6), (30, 14)):
        rows.append(("mcnemar", f"{b}_{c}", 0, mcnemar([[3, b], [c, 4]], exact=True).pvalue))
    for left, right, runs in ((0, 5, 5), (1, 4, 5), (0, 3, 3), (2, 7, 10)):
        table = [[left, runs - left], [right, runs - right]]
        rows.append(("fisher", f"{left}_{right}_{runs}", 0, stats.fisher_exact(table).pvalue))
    for count, runs in ((0, 5), (1, 5), (5, 5), (3, 10)):
        low, high = proportion_confint(count, runs, method="beta")
        rows += [("rate", f"{count}_{runs}", 1, low), ("rate", f"{count}_{runs}", 2, high)]
    # One-way layouts are what scipy's Dunnett test knows: its critical value is compared through a one-way example.
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(4, 5))
    one_way = stats.dunnett(*samples[1:], control=samples[0], rng=np.random.default_rng(2))
    for arm in range(3):
        rows += [("one_way_statistic", "seed_1", arm + 1, one_way.statistic[arm])]
        rows += [("one_way_p", "seed_1", arm + 1, one_way.pvalue[arm])]
    with Path("reference_python.csv").open("w") as out:
        out.write(f"# scipy {scipy.__version__}\n# statsmodels {statsmodels.__version__}\n# numpy {np.__version__}\n")
        out.write(f"# {datetime.date.today()}\nquantity,case,item,value\n")
        out.writelines(f"{quantity},{case},{item},{value:.12g}\n" for quantity, case, item, value in rows)


if __name__ == "__main__":
    main()
