"""Prints the values that the tests in this folder expect, as SciPy 1.x computes them: python goldens.py"""

import numpy as np
from scipy import stats

runs = np.array([0.781, 0.786, 0.779])
sd = runs.std(ddof=1)
low, high = stats.t.interval(0.95, len(runs) - 1, runs.mean(), sd / np.sqrt(len(runs)))
print("spread", repr(float(sd)), repr(float(low)), repr(float(high)))

print("mcnemar", repr(float(stats.binomtest(250, 560, 0.5).pvalue)))

n = np.array([5000, 10000, 14000, 14000, 28000, 42000], dtype=float)
error = np.array([0.41, 0.33, 0.29, 0.3, 0.235, 0.2])
x, y = np.log(n), np.log(error)
line = stats.linregress(x, y)
figures = [np.exp(line.intercept), -line.slope, np.exp(line.intercept + line.slope * np.log(84000))]
print("power_law", [float(f) for f in figures])

i = np.arange(40)
number, outcome = i * 7 % 13, i % 3 == 0
test = stats.mannwhitneyu(number[outcome], number[~outcome], use_continuity=False, method="asymptotic")
auroc = test.statistic / (outcome.sum() * (~outcome).sum())
print("mann_whitney", repr(float(auroc)), repr(float(test.pvalue)))

for (a, n), (c, m) in [((3, 4), (1, 4)), ((60, 385), (300, 3616)), ((0, 10), (5, 12)), ((900, 3000), (850, 3000))]:
    print("fisher", (a, n), (c, m), repr(float(stats.fisher_exact([[a, n - a], [c, m - c]]).pvalue)))
