#!/usr/bin/env bash
# Runs anomalyd over the labelled data sets by every protocol and prints its figures beside the peers'. What is in docs/quality.md comes from here.
#   scripts/quality.sh [PROTOCOL …]        tab-unsup tab-normal ts skab stream; all by default
#   scripts/quality.sh networks            the network kinds one by one on both tab- protocols, by config/quality/networks.toml
#   QUALITY_SET="model.kind=pca"           overrides, separated by spaces
set -euo pipefail
cd "$(dirname "$0")/.."
shared=${QUALITY_SHARED:-../shared}
profile=${PROFILE:-quick}
if [ ! -d "$shared/data" ] || [ ! -f "$shared/eval/drive.py" ]; then
    echo "quality: skipped, because $shared/data or $shared/eval/drive.py is absent (QUALITY_SHARED names another folder)"
    exit 0
fi
python=target/quality-venv/bin/python
if ! [ -x "$python" ] || ! "$python" -c 'import pandas, sklearn' 2>/dev/null; then
    if ! python3 -m venv target/quality-venv || ! target/quality-venv/bin/pip install --quiet pandas scikit-learn; then
        echo "quality: skipped, because Python with pandas and scikit-learn cannot be had (apt install python3-venv; network)"
        exit 0
    fi
fi
overrides=()
for pair in ${QUALITY_SET:-}; do
    overrides+=(--set "$pair")
done
if [ "${1:-}" = networks ]; then
    for kind in model.kind=vae model.kind=gan model.autoencoder.regularizer={none,sparse,denoising,contractive}; do
        for protocol in tab-unsup tab-normal; do
            echo "== $protocol (config/quality/networks.toml $kind ${overrides[*]:-})"
            "$python" "$shared/eval/drive.py" --bin "target/$profile/anomalyd" --config config/quality/networks.toml --set "$kind" \
                --protocol "$protocol" --data "$shared/data" --out "target/quality/$kind" "${overrides[@]}"
        done
    done
    exit 0
fi
for protocol in "${@:-tab-unsup tab-normal ts skab stream}"; do
    for one in $protocol; do
        case $one in
            tab-*) config=tabular ;;
            ts | skab) config=series ;;
            stream) config=stream ;;
            *) echo "quality: unknown protocol $one" >&2; exit 64 ;;
        esac
        echo "== $one (config/quality/$config.toml ${overrides[*]:-})"
        "$python" "$shared/eval/drive.py" --bin "target/$profile/anomalyd" --config "config/quality/$config.toml" \
            --protocol "$one" --data "$shared/data" --out target/quality "${overrides[@]}"
    done
done
