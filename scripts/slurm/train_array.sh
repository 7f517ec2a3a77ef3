#!/usr/bin/env bash
#SBATCH --job-name=nnunet-dycon
#SBATCH --array=0-4
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=12
#SBATCH --mem=48G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
#SBATCH --output=%x_%A_fold%a.log
# One fold a job of a Slurm array. A job that is preempted or runs out of time is queued again and continues (--c).
#   sbatch scripts/slurm/train_array.sh DATASET CONFIGURATION [options of nnUNetv2_train]
# Other folds: sbatch --array=3 scripts/slurm/train_array.sh ... The environment has to be active, and nnUNet_raw,
# nnUNet_preprocessed and nnUNet_results set, where sbatch is called.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: sbatch $(basename "$0") DATASET CONFIGURATION [options of nnUNetv2_train]" >&2
  exit 2
fi
for variable in nnUNet_raw nnUNet_preprocessed nnUNet_results; do
  [ -n "${!variable:-}" ] || { echo "the environment variable $variable is not set" >&2; exit 2; }
done
dataset=$1 configuration=$2
shift 2
export nnUNet_n_proc_DA=${nnUNet_n_proc_DA:-${SLURM_CPUS_PER_TASK:-8}}

nnUNetv2_train "$dataset" "$configuration" "$SLURM_ARRAY_TASK_ID" --npz --c "$@" &
training=$!

again() { # five minutes before the time limit
  trap '' USR1
  echo "time limit: fold $SLURM_ARRAY_TASK_ID is queued again"
  kill -TERM "$training" 2>/dev/null || true
  wait "$training" || true
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}
trap again USR1
wait "$training"
