"""A table of numbers: HanRegressor beside what scikit-learn has, on its table of diabetes patients.

Five folds; the same rows for all.
"""

import torch
from sklearn.datasets import load_diabetes
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_predict
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from _gallery import arguments, save
from hannet import HanRegressor
from hannet.reporting.figures import new_figure

options = arguments()
x, y = load_diabetes(return_X_y=True)
MODELS = {
    "HanRegressor": HanRegressor(epochs=1 if options.quick else 100, random_state=0),
    "ridge": RidgeCV(),
    "MLP": make_pipeline(StandardScaler(), MLPRegressor(max_iter=20 if options.quick else 1000, random_state=0)),
    "boosted trees": HistGradientBoostingRegressor(max_iter=2 if options.quick else 100, random_state=0),
}
torch.manual_seed(0)
figure = new_figure(8, 2.5)
panels = figure.subplots(1, 4, sharex=True, sharey=True)
for axes, (label, model) in zip(panels, MODELS.items(), strict=True):
    found = cross_val_predict(model, x, y, cv=5)
    axes.plot(y, found, ".", markersize=2)
    axes.plot([0, 350], [0, 350], color="gray", linewidth=0.7)
    axes.set_title(f"{label}: RMSE {((found - y) ** 2).mean() ** 0.5:.1f}", fontsize=9)
    axes.set_xlabel("measured")
panels[0].set_ylabel("predicted")
save(figure, options.picture)
