#!/usr/bin/env bash
# What a GPU says of the project, in one command and under 9 minutes, in an environment where it is installed:
#   bash scripts/gpu_check.sh [--dry] [--la FOLDER] [--packed FOLDER] [STAGE ...]        stages: 0 1 2 3 (all), and 4
#   0 versions   1 correctness on tiny data, eager and compiled   2 cost of losses and steps, while nothing else runs
#   3 LA with 8 labels: control, Mean Teacher, DyCON side by side, 20 test cases (beside the trainings of 1)
#   4 (named only) the same step compiled at real size
# --la FOLDER      images/, labels/ and train.list of LA, as scripts/experiments/prepare.py reads them; without it
#                  stage 3 is skipped and 2 measures on a phantom
# --packed FOLDER  for a machine without a network: its site.tar.xz holds packages to import, its la.tar the folder la
# LA_STEPS=N       of each training in stage 3; else as many as fit
# --dry            on the CPU at tiny size; gpu_check/last_dry_run.txt beside this script says when, and how it went
# Results go to $OUT (gpu_out) as they come: summary.md (read this), *.json, logs.tar.gz; $WORK holds data and models.
# Every part has its own time limit; one that fails is a line in summary.md, and the next one starts.
set -uo pipefail
DRY='' la='' packed=''
while [ $# -gt 0 ]; do case $1 in
  --dry) DRY=1; shift ;;
  --la) la=$(cd "$2" && pwd) || exit 1; shift 2 ;;
  --packed) packed=$(cd "$2" && pwd) || exit 1; shift 2 ;;
  -*) sed -n '2,/^set/p' "$0" | grep '^#'; exit 2 ;;
  *) break ;;
esac; done
stages=" ${*:-0 1 2 3} "
root=$(cd "$(dirname "$0")/.." && pwd)
check=$root/scripts/gpu_check/check.py
export DRY OUT=${OUT:-$PWD/gpu_out} WORK=${WORK:-$PWD/gpu_out${DRY:+_dry}/work}
total_s=${TOTAL_S:-$([ -n "$DRY" ] && echo 7200 || echo 535)}
begin=$SECONDS
mkdir -p "$OUT" "$WORK/logs"
summary=$OUT/summary.md; : > "$summary"
left() { echo $(( total_s - (SECONDS - begin) )); }
say() { echo "[$((SECONDS - begin)) s] $*" | tee -a "$summary"; }
save_logs() {
  tar -C "$WORK" -czf "$OUT/logs.tar.gz.partial" logs 2>/dev/null
  mv "$OUT/logs.tar.gz.partial" "$OUT/logs.tar.gz"
}
limited() {  # NAME SECONDS COMMAND...: under a time limit, log in logs/NAME.log, one line in the summary
  local name=$1 seconds=$2 start=$SECONDS rc; shift 2
  [ -n "$DRY" ] && seconds=$(( seconds * 20 ))
  [ "$seconds" -gt "$(left)" ] && seconds=$(left)
  if [ "$seconds" -lt 5 ]; then say "SKIPPED $name: no time left"; return 99; fi
  timeout -k 5 "$seconds" "$@" > "$WORK/logs/$name.log" 2>&1 < /dev/null; rc=$?
  if [ $rc = 0 ]; then say "ok $name, $((SECONDS - start)) s"; return 0; fi
  say "FAILED $name, exit code $rc, limit $seconds s (124 and 137: the limit):" \
    "$(grep -v '^ *$' "$WORK/logs/$name.log" | tail -1 | cut -c1-300)"
  return $rc
}
found() { grep -E "$2" "$WORK/logs/$1.log" 2>/dev/null | cut -c1-220 | sed "s/^/${3:-}/" >> "$summary"; }  # LOG PATTERN
wanted() { [[ $stages == *" $1 "* ]]; }

# ------------------------------------------------------------------------------------------------------- set-up
python=${PYTHON:-python3}
device=$([ -n "$DRY" ] && echo cpu || echo cuda)
cores=$(nproc); workers=$([ -n "$DRY" ] && echo 1 || echo $(( cores > 4 ? cores - 2 : cores )))
if [ -n "$packed" ]; then
  if [ ! -d "$WORK/site" ]; then
    mkdir -p "$WORK/site.partial" && tar xJf "$packed/site.tar.xz" -C "$WORK/site.partial" &&
      mv "$WORK/site.partial" "$WORK/site" || say "FAILED to unpack $packed/site.tar.xz"
  fi
  [ -d "$WORK/la" ] || tar xf "$packed/la.tar" -C "$WORK" || say "FAILED to unpack $packed/la.tar"
  la=${la:-$WORK/la}
  export PYTHONPATH=$WORK/site:$root${PYTHONPATH:+:$PYTHONPATH}
fi
export PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore MPLBACKEND=agg
export nnUNet_raw=$WORK/raw nnUNet_preprocessed=$WORK/preprocessed nnUNet_results=$WORK/results
export nnUNet_def_n_proc=$workers nnUNet_n_proc_DA=$([ -n "$DRY" ] && echo 1 || echo 4)
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TORCHINDUCTOR_CACHE_DIR=$WORK/inductor
mkdir -p "$nnUNet_raw" "$nnUNet_preprocessed" "$nnUNet_results"
package=$($python -c "import nnunet_dycon; print(nnunet_dycon.__path__[0])" 2>> "$WORK/logs/import.log") ||
  { say "FAILED: $python cannot import nnunet_dycon: $(tail -1 "$WORK/logs/import.log")"; exit 1; }
export nnUNet_extTrainer=$package/ext_trainer  # as the start-up hook of an installation does
entry() {  # MODULE:FUNCTION ARGUMENTS...: a console script, which an unpacked package does not have
  local entry=$1; shift
  $python -c "
import importlib, sys
if __name__ == '__main__':  # workers that are spawned import this
    module, name = '$entry'.split(':')
    sys.exit(getattr(importlib.import_module(module), name)())" "$@"
}
plan() { entry nnunetv2.experiment_planning.plan_and_preprocess_entrypoints:plan_and_preprocess_entry "$@"; }
preprocess() { entry nnunetv2.experiment_planning.plan_and_preprocess_entrypoints:preprocess_entry "$@"; }
train() { entry nnunetv2.run.run_training:run_training_entry "$@" -device $device; }
predict() { entry nnunetv2.inference.predict_from_raw_data:predict_entry_point "$@" -device $device; }
dycon() { entry nnunet_dycon.cli:main "$@"; }
export -f entry plan preprocess train predict dycon; export python device workers root check la
say "set up: stages$stages on $device, package $package, $(left) s left"

# --------------------------------------------------------------------------------------------------- 0 versions
if wanted 0; then
  limited versions 60 $python -c "
import sys, platform, torch, numpy, nnunetv2, nnunet_dycon, blosc2, SimpleITK
print(sys.version.split()[0], platform.machine(), 'torch', torch.__version__, 'cuda', torch.version.cuda,
      'cudnn', torch.backends.cudnn.version(), 'numpy', numpy.__version__)
print(nnunetv2.__file__, nnunet_dycon.__file__, blosc2.__version__)
if '$DRY' == '' and not torch.cuda.is_available(): sys.exit('torch sees no GPU')
if torch.cuda.is_available(): print(torch.cuda.get_device_name(), torch.cuda.mem_get_info())"
  sed 's/^/    /' "$WORK/logs/versions.log" >> "$summary"
  nvidia-smi > "$WORK/logs/nvidia-smi.log" 2>&1 &&
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >> "$summary"
  lscpu > "$WORK/logs/lscpu.log" 2>&1
fi

# ------------------------------------------------------------------------------------- data, in the background
prepare_la() {
  [ -f "$nnUNet_preprocessed/la_ready" ] && return 0
  local what="--spacing 1.25 --labeled 8"; [ -n "$DRY" ] && what="--spacing 5 --labeled 2"
  $python "$root/scripts/experiments/prepare.py" la --source "$la" --dataset-id 501 --name la $what &&
  plan -d 501 -c 3d_fullres -np "$workers" -npfp "$workers" --no_pp &&
  $python "$root/scripts/gpu_check/plans.py" 501 && preprocess -d 501 -c 3d_fullres -np "$workers" &&
  dycon preprocess -d 501 -c 3d_fullres -np "$workers" && touch "$nnUNet_preprocessed/la_ready"
}
prepare_phantom() {
  [ -f "$nnUNet_preprocessed/phantom_ready" ] && return 0
  local size=40; [ -n "$DRY" ] && size=32
  [ -d "$nnUNet_raw/Dataset901_Phantom" ] ||
    dycon phantom -d 901 --labeled 3 --unlabeled 4 --test 2 --size $size || return 1
  plan -d 901 -c 3d_fullres 2d -np 2 2 -npfp 2 && $python "$root/scripts/gpu_check/plans.py" 901 &&
  dycon preprocess -d 901 -c 3d_fullres 2d -p tiny -np 2 && touch "$nnUNet_preprocessed/phantom_ready"
}
export -f prepare_la prepare_phantom
la_job='' phantom_job=''
if wanted 1 || wanted 2; then
  limited prepare_phantom 150 bash -c prepare_phantom & phantom_job=$!
  [ -n "$DRY" ] && wait $phantom_job  # the dry run does one thing at a time
fi
if [ -n "$la" ] && { wanted 3 || { [ -z "$DRY" ] && { wanted 2 || wanted 4; }; }; }; then
  limited prepare_la 200 bash -c prepare_la & la_job=$!
  [ -n "$DRY" ] && wait $la_job
fi

# --------------------------------------------------------------- 1 correctness: losses and single steps, meanwhile
if wanted 1; then
  limited losses 100 $python "$check" losses $device "$OUT/losses_check.json"
  found losses '^(FAIL|all )' '    '
  wait $phantom_job
  limited step 100 env nnUNet_compile=f $python "$check" step 901 3d_fullres tiny $device "$OUT/step_check.json"
  found step '^(FAIL|ok|sync|memory)' '    '
  save_logs
fi

# ---------------------------------------------------------------------------- 2 cost, while nothing else is running
[ -n "$phantom_job" ] && wait "$phantom_job"
[ -n "$la_job" ] && wait "$la_job"
repeats=$([ -n "$DRY" ] && echo 1 || echo 7)
benchmark=$root/scripts/benchmarks/benchmark.py
data=$([ -f "$nnUNet_preprocessed/la_ready" ] && echo 501 || echo 901) real=$([ -n "$DRY" ] && echo tiny || echo paper)
step_cost() {  # NAME PLANS SECONDS COMPILE [OPTIONS]: made-up crops, so that only the plans matter
  local name=benchmark_step_$1 plans=$2 seconds=$3 compile=$4; shift 4
  limited $name "$seconds" env nnUNet_compile="$compile" $python "$benchmark" step -d $data -p "$plans" \
    -device $device --repeats $repeats -o "$OUT/$name.json" "$@"
  found $name '^(\||One step)'
}
if wanted 2; then
  limited benchmark_losses 100 $python "$benchmark" losses gradients -device $device --repeats $repeats \
    -o "$OUT/benchmark_losses.json" $([ -n "$DRY" ] && echo --small)
  found benchmark_losses '^\|'
  # uncompiled, because compiling takes minutes (stage 4)
  [ -n "$DRY" ] || { [ $data = 501 ] && step_cost plan nnUNetPlans 80 f; }
  step_cost $real $real 70 f --steps 1
  limited profile 40 env nnUNet_compile=f $python "$check" profile $data $real $device
  found profile '^\|'
  save_logs
fi
if wanted 4; then step_cost compiled $real 200 t --steps 1 --times-only; save_logs; fi

# ----------------------------- 1 correctness: whole trainings on the phantom, beside the LA trainings of stage 3
tiny() {  # NAME TRAINER CONFIGURATION COMPILE: stopped after a first epoch, resumed, validated, predicted, evaluated
  export nnUNet_results=$WORK/results/$1 nnUNet_compile=$4 nnUNet_n_proc_DA=1 nnUNet_def_n_proc=2
  local steps=10 raw=$nnUNet_raw/Dataset901_Phantom; [ -n "$DRY" ] && steps=3
  mkdir -p "$nnUNet_results"
  export nnUNet_dycon="num_epochs=2,num_iterations_per_epoch=$steps,num_val_iterations_per_epoch=2"
  nnUNet_dycon+=",picture_every_epochs=1,save_every=1,ramp_start=0.25,ramp_length=0.25"
  # fold 0: the phantom has too few labelled cases for five folds, so that all of them validate
  if [ "$4" = f ]; then
    $python "$check" stop_after_epoch 901 "$3" 0 tiny "$2" $device && train 901 "$3" 0 -p tiny -tr "$2" --c || return 1
  else train 901 "$3" 0 -p tiny -tr "$2" || return 1; fi  # a second process would compile all again
  predict -d 901 -i "$raw/imagesTs" -o "$nnUNet_results/predictions" -f 0 -c "$3" -p tiny -tr "$2" -npp 1 -nps 1 \
    ${DRY:+--disable_tta} &&
  dycon evaluate --predictions "$nnUNet_results/predictions" --references "$raw/labelsTs" -o "$nnUNet_results/evaluation" -np 1
}
distributed() {  # NCCL and DistributedDataParallel, with one process
  export nnUNet_results=$WORK/results/ddp nnUNet_compile=f nnUNet_n_proc_DA=1 nnUNet_def_n_proc=2
  mkdir -p "$nnUNet_results"
  export nnUNet_dycon="num_epochs=2,num_iterations_per_epoch=4,num_val_iterations_per_epoch=1,ramp_start=0.3"
  $python -m torch.distributed.run --nproc_per_node 1 --master_port 29533 -m nnunet_dycon.torchrun \
    901 3d_fullres 0 -p tiny -tr nnUNetTrainerDyCON -device $device
}
export -f tiny distributed
tiny_jobs=()
start_tiny() { limited "$@" & tiny_jobs+=($!); [ -n "$DRY" ] && wait $!; }
if wanted 1 && [ -f "$nnUNet_preprocessed/phantom_ready" ]; then
  if [ -z "$DRY" ]; then
    start_tiny tiny_compiled 280 nice -n 5 bash -c 'tiny compiled nnUNetTrainerDyCON 3d_fullres t'
    start_tiny tiny_compiled_2d 280 nice -n 5 bash -c 'tiny compiled_2d nnUNetTrainerDyCON 2d t'
    start_tiny tiny_cotraining 180 nice -n 5 bash -c 'tiny cotraining nnUNetTrainerDyCONCoTraining 3d_fullres f'
  fi
  start_tiny tiny_eager 180 nice -n 5 bash -c 'tiny eager nnUNetTrainerDyCON 3d_fullres f'
  start_tiny tiny_ddp 150 nice -n 5 bash -c distributed
elif wanted 1; then say "SKIPPED the trainings on the phantom: it could not be prepared"; fi

# --------------------------------------------------------------------------------------------------------- 3 LA
if wanted 3 && [ -f "$nnUNet_preprocessed/la_ready" ]; then
  training_s=$(( $(left) - 75 ))  # 75: predicting 20 cases, the table
  epochs=20 steps=${LA_STEPS:-$($python "$check" steps_in "$OUT/benchmark_step_plan.json" "$training_s")}
  [ -n "$DRY" ] && { epochs=2; steps=4; }
  settings="num_epochs=$epochs,num_iterations_per_epoch=$(( steps / epochs )),num_val_iterations_per_epoch=2"
  settings+=",picture_every_epochs=0,save_every=2"
  say "LA: $steps steps each, three trainings side by side in about $training_s s ($settings)"
  compare=(-c "import sys; from nnunet_dycon.cli import main; sys.exit(main())" compare -d 501 -device $device
    -o "$WORK/la_runs"
    -p "$([ -n "$DRY" ] && echo tiny || echo nnUNetPlans)" --settings "$settings" --seeds 0 --curve 1
    --runs control=nnUNetTrainerSupervised mt=nnUNetTrainerMeanTeacher dycon=nnUNetTrainerDyCON)
  export nnUNet_compile=f nnUNet_n_proc_DA=$([ -n "$DRY" ] && echo 0 || echo $(( cores / 4 > 0 ? cores / 4 : 1 )))
  mkdir -p "$WORK/la_runs"; la_jobs=()
  for run in control mt dycon; do
    limited la_$run $(( $(left) - 12 )) $python "${compare[@]}" --job $run:0 & la_jobs+=($!)
    [ -n "$DRY" ] && wait $!
  done
  for job in "${la_jobs[@]}"; do wait "$job"; done
  limited la_table 30 $python "${compare[@]}" --table-only
  cat "$WORK/la_runs/table.md" >> "$summary" 2>/dev/null
  for run in control mt dycon; do
    log=$(find "$WORK/la_runs/$run" -name 'training_log*.txt' 2>/dev/null | head -1)
    [ -n "$log" ] && cp "$log" "$WORK/logs/la_training_$run.txt" &&
      say "$run: seconds an epoch $(grep -hE 'Epoch time' "$log" | awk '{print $(NF-1)}' | tr '\n' ' ')" > /dev/null
  done
elif wanted 3; then say "SKIPPED LA: $([ -n "$la" ] && echo its preparation failed || echo no --la FOLDER)"; fi
save_logs

# --------------------------------------------------------------------------------------------------------- the end
for job in ${tiny_jobs[@]+"${tiny_jobs[@]}"}; do wait "$job"; done
wanted 1 && for name in eager compiled compiled_2d cotraining ddp; do
  log=$(ls -t "$WORK"/results/$name/Dataset901_Phantom/*/fold_0/training_log*.txt 2>/dev/null | head -1)
  [ -n "$log" ] && echo "    $name: $(grep -hE 'train_loss|Mean Validation' "$log" | sed 's/^[^ ]* [^ ]* //' |
    tr '\n' ' ' | cut -c1-160); over the recompile limit $(grep -c recompile_limit "$WORK/logs/tiny_$name.log") times" \
    >> "$summary"
done
save_logs
say "done, $(left) s left"
cat "$summary"
failed=$(grep -c FAILED "$summary")
[ -n "$DRY" ] &&
  echo "$(date -u +%F), commit $(git -C "$root" describe --always --dirty 2>/dev/null), stages${stages% }: $failed failed" \
  > "$root/scripts/gpu_check/last_dry_run.txt"
[ "$failed" = 0 ]
