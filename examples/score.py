"""Scores records by a dense autoencoder as anomalyd does, with numpy alone.

    anomalyd train --input normal.csv --model pump.safetensors --set model.kind=autoencoder
    python3 examples/score.py pump.safetensors new.csv

A score a line, nan where the key's window is not full; `new.csv` has the model's features, complete, of one key. `score` is what follows a model elsewhere: each number is a tensor or a setting of the file.
"""

import csv
import json
import sys

import numpy as np


def load(path):
    """The tensors of a model file by name, its settings, and its card."""
    raw = open(path, "rb").read()
    begin = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:begin])
    meta = json.loads(header.pop("__metadata__")["anomalyd"])
    array = lambda t: np.frombuffer(raw[begin:], {"F32": "<f4", "F64": "<f8"}[t["dtype"]], int(np.prod(t["shape"])), t["data_offsets"][0]).reshape(t["shape"])
    return {name: array(t) for name, t in header.items()}, {name: json.loads(text) for name, text in meta["settings"].items()}, meta["card"]


def score(windows, tensors, settings, card):
    """Scores of complete windows, n x (window * columns), the oldest record first."""
    if settings["kind"] != "autoencoder" or card["spec"]["autoencoder"]["architecture"] != "dense" or card.get("types"):
        raise SystemExit("this follows dense autoencoders of one type of keys; the file is of another kind")
    if any("context" in name or "ranks" in name or "levels" in name for name in {**settings, **tensors}) or any(settings["scaler.changes"].values()):
        raise SystemExit("this follows scaling without categories, ranks, levels of keys, and counters")
    per_record = lambda name: np.tile(settings[f"scaler.{name}"], card["spec"]["window"])
    scaled, clip = (windows - per_record("centre")) / per_record("spread"), settings["scaler.clip"]
    if clip > 0:  # what lies far out is compressed, then cut off where sensors are judged beside the model
        far = np.abs(scaled) > clip
        scaled[far] = np.sign(scaled[far]) * clip * (1 + np.log(np.abs(scaled[far]) / clip))
        scaled = np.clip(scaled, -per_record("bounds"), per_record("bounds")) if "sensors.mean" in tensors else scaled

    def layers(x, name):
        for at, layer in enumerate(settings[f"model.{name}.shape"]):
            x = x @ tensors[f"model.{name}.{at}.weight"].astype(float) + tensors[f"model.{name}.{at}.bias"]
            x = {"identity": lambda x: x, "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "sigmoid": lambda x: 1 / (1 + np.exp(-x))}[layer["activation"]](x)
        return x

    def squares(x, name):
        x = (x - tensors[f"model.{name}.centre"]) * tensors[f"model.{name}.factor"].astype(float)
        whitening = tensors[f"model.{name}.whitening"]
        return ((x @ whitening if whitening.size else x) ** 2).sum(1)

    code = layers(scaled, "encoder")
    distance = squares(scaled - layers(code, "decoder"), "residual")
    return (distance + settings["model.code_weight"] * squares(code, "position")) / settings["model.width"]


if __name__ == "__main__":
    model = load(sys.argv[1])
    columns, window = model[2]["columns"], model[2]["spec"]["window"]
    rows = np.array([[float(row[column]) for column in columns] for row in csv.DictReader(open(sys.argv[2]))])
    windows = np.lib.stride_tricks.sliding_window_view(rows, window, axis=0).transpose(0, 2, 1).reshape(len(rows) - window + 1, -1)
    for value in [float("nan")] * (window - 1) + list(score(windows, *model)):
        print(repr(float(value)))
