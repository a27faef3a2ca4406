"""What is told of simulated fleets, many keys in one topic, under plain defaults: faults found, false alarms, and how long keys are in episodes.

    target/quality-venv/bin/python scripts/fleets.py [--bin target/quick/anomalyd] [--only types hourly] [--seeds 2] [--set KEY=VALUE]

The streams are of the kinds of streams.py. `types`: machines, services, rooms and counters in one topic, each with features of its own. `like` and `machines`: twenty keys of one kind, at levels of their own; `many`: two hundred. `hourly`: thirty keys that send a
record an hour. `meters`: twenty-four keys of a single feature. `sensors`: keys of a single feature that are of four kinds. Each key has one fault, its kind's in turn, of `LENGTH` records at most. The first model learns from three tenths of the records, as the daemon's does (`--as-live`); `anomalyd backtest` replays the
rest with daily trainings at the default budget, `"1/week"`. Printed for each fleet: faults that touch an episode, and in how many one opened; false episodes a key and day; the share of ordinary records within episodes, and of those with p <= 0.01; then the faults by kind.
"""

from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd

import streams

LENGTH = 36
SHARE = 0.3

# Kinds and how many keys of each, seconds between records, days, and how far levels lie apart.
FLEETS = {
    "types": (["machine", "web", "quantised", "counters"], 3, 600, 30, 0.0),
    "like": (["web"], 20, 600, 20, 0.3),
    "machines": (["machine"], 20, 600, 20, 0.2),
    "many": (["web"], 200, 600, 12, 0.3),
    "hourly": (["night"], 30, 3600, 60, 0.2),
    "meters": (["visits"], 24, 1800, 40, 1.0),
    "sensors": (["cycle", "steady", "room", "motor"], 3, 600, 30, 0.0),
}


def fleet(name, seed):
    """All records in order of time, and for each key its kind and its faults as (name, first record, record after the last)."""
    kinds, keys, seconds, days, apart = FLEETS[name]
    rng = np.random.default_rng(seed * 31 + sum(map(ord, name)))
    day = streams.DAY = 86_400 // seconds
    length = max(12, min(LENGTH, day // 4))
    frames, faults = [], {}
    for kind in kinds:
        for number in range(keys):
            n, key = days * day, f"{kind}-{number}"
            data, causes = streams.STREAMS[kind](rng, n)
            if apart:
                for column in data.columns.difference(["on"]):
                    data[column] *= np.exp(apart * rng.normal())
            fault, cause = list(causes.items())[number % len(causes)]
            a = int(rng.integers(int(n * 0.4), n - 2 * length))
            cause(data, a, a + length, rng)
            faults[key] = (kind, [(fault, a, a + length)])
            data.insert(0, "key", key)
            frames.append(streams.stamped(data, seconds))
    return pd.concat(frames).sort_values(["when", "key"], kind="stable").reset_index(drop=True), faults, day, length


def replay(binary, name, seed, settings):
    records, faults, day, length = fleet(name, seed)
    warmup = int(len(records) * SHARE)
    all_alerts, p_values = streams.backtest(binary, records, ["--key", "key", "--warmup", str(warmup), "--as-live"], settings)
    found, within, rare, false, days = {}, [], [], 0, 0
    for key, (kind, at) in faults.items():
        own = (records.key == key).values
        alerts = all_alerts[own]
        judged = np.flatnonzero(own) >= warmup
        runs = [run for run in streams.runs(alerts) if judged[run[1] - 1]]
        touches = lambda a, b, run: run[0] < b + length // 2 and run[1] > a
        for fault, a, b in at:
            hits = [run for run in runs if touches(a, b, run)]
            found.setdefault(f"{kind}: {fault}", []).append((bool(hits), any(run[0] >= a for run in hits), alerts[a:b].mean()))
        false += sum(not any(touches(a, b, run) for _, a, b in at) for run in runs)
        ordinary = judged.copy()
        for _, a, b in at:
            ordinary[a : b + length // 2] = False
        within.append(alerts[ordinary].mean())
        rare.append((p_values[own][ordinary] <= 1e-2).mean())
        days += judged.sum() / day
    return found, false / days, np.mean(within), np.max(within), np.mean(rare)


def main():
    given = streams.arguments(__doc__, FLEETS, 2)
    for name in given.only:
        with ProcessPoolExecutor(given.jobs) as pool:
            jobs = [pool.submit(replay, given.bin, name, seed, given.set) for seed in range(given.seeds)]
            seeds = [job.result() for job in jobs]
        found = {}
        for by_fault, *_ in seeds:
            for fault, hits in by_fault.items():
                found.setdefault(fault, []).extend(hits)
        all_hits = [hit for hits in found.values() for hit in hits]
        false, within, most, rare = (np.array([seed[i] for seed in seeds]) for i in range(1, 5))
        print(f"{name}: {sum(hit for hit, *_ in all_hits)} of {len(all_hits)} found, {sum(opened for _, opened, _ in all_hits)} opened within; {false.mean():.3f} false a key and day; "
              f"{within.mean():.1%} in episodes, the worst key {most.max():.0%}; p <= 0.01: {rare.mean():.4f}")
        for fault, hits in found.items():
            print(f"  {fault:32s} {sum(opened for _, opened, _ in hits)} of {len(hits)} opened, {np.mean([covered for *_, covered in hits]):.0%} covered", flush=True)


if __name__ == "__main__":
    main()
