#!/usr/bin/env bash
# From nothing to a Dice table: installs the project, makes a phantom dataset with one labelled and many unlabelled
# scans, and runs nnU-Net's own commands on it, with plain nnU-Net and with DyCON. Some 6 minutes of CPU time, without
# the installation.
#   bash scripts/quickstart.sh [FOLDER]      (default: quickstart)
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mkdir -p "${1:-quickstart}" && cd "${1:-quickstart}" && pwd)
source scripts/environment.sh -

export nnUNet_raw=$folder/raw nnUNet_preprocessed=$folder/preprocessed nnUNet_results=$folder/results
mkdir -p "$nnUNet_raw" "$nnUNet_preprocessed" "$nnUNet_results"
export nnUNet_n_proc_DA=${nnUNet_n_proc_DA:-1} nnUNet_def_n_proc=${nnUNet_def_n_proc:-2} OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
export PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore
device=$(python -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')
dataset=Dataset901_Phantom plans=nnUNetPlans_quickstart
models=$nnUNet_results/$dataset

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

if [ ! -f "$nnUNet_raw/$dataset/dataset.json" ]; then
  step "phantom dataset: 1 labelled, 27 unlabelled, 12 test scans"
  nnunet-dycon phantom -d 901
fi

if [ ! -f "$nnUNet_preprocessed/$dataset/$plans.json" ]; then
  step "planning and preprocessing by nnU-Net"
  nnUNetv2_plan_and_preprocess -d 901 -c 3d_fullres --verify_dataset_integrity \
    -npfp "$nnUNet_def_n_proc" -np "$nnUNet_def_n_proc"
  # a network that two CPU cores train in minutes
  nnunet-dycon shrink-plans -d 901 --plans-name "$plans" --features 8 --patch-size 32 32 32
fi
nnunet-dycon preprocess -d 901 -c 3d_fullres -p "$plans"

for trainer in nnUNetTrainerSupervised nnUNetTrainerDyCON; do
  if [ ! -f "$models/${trainer}__${plans}__3d_fullres/fold_0/checkpoint_final.pth" ]; then
    step "training $trainer on the $device: 12 epochs of 20 steps"
    settings=num_epochs=12,num_iterations_per_epoch=20,num_val_iterations_per_epoch=2
    [ "$trainer" = nnUNetTrainerDyCON ] && settings+=,max_patches=512 # a coarser FeCL, for a CPU
    nnUNet_dycon=$settings \
      nnUNetv2_train 901 3d_fullres 0 -p "$plans" -tr "$trainer" -device "$device"
  fi
  step "predicting the test scans with $trainer"
  nnUNetv2_predict -d 901 -i "$nnUNet_raw/$dataset/imagesTs" -o "$folder/predictions/$trainer" -f 0 -c 3d_fullres \
    -p "$plans" -tr "$trainer" -device "$device" -npp 1 -nps 1 --disable_tta
done

step "evaluation"
predictions=$folder/predictions/nnUNetTrainerDyCON
nnunet-dycon evaluate --predictions "$folder/predictions/nnUNetTrainerSupervised" "$predictions" \
  --references "$nnUNet_raw/$dataset/labelsTs" -o "$folder"
nnunet-dycon overlay "$nnUNet_raw/$dataset/imagesTs" "$nnUNet_raw/$dataset/labelsTs" "$predictions" \
  -o "$folder/overlay.png"
printf '\nCurves: %s\nPicture: %s\n' "$models/nnUNetTrainerDyCON__${plans}__3d_fullres/fold_0/progress.png" "$folder/overlay.png"
