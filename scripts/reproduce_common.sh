# Shared by reproduce_{la,pancreas,brats19,isles22,acdc}.sh, which set DATASET, NAME, SOURCE_ID, FRACTIONS, LABELED
# and, where they differ, UNIT and CONFIG.
# From the download of a dataset to the table of test results under a published protocol. Every command is printed;
# finished steps are not repeated, so an interrupted run continues where it stopped.

UNIT=${UNIT:-percent} CONFIG=${CONFIG:-3d_fullres}

usage() {
  cat <<END
usage: $(basename "$0") DOWNLOAD [options] [-- options of 'nnunet-dycon convert $DATASET']

  --labeled P       labelled $UNIT of the training cases: $FRACTIONS (default: $LABELED)
  --trainer NAME    nnU-Net trainer (default: nnUNetTrainerDyCON; plain nnU-Net: nnUNetTrainer)
  --fold F          fold (default: 0, which trains on all labelled cases of the protocol)
  --config NAME     nnU-Net configuration (default: $CONFIG)
  --device NAME     cuda, cpu or mps (default: cuda)
  --source-id N     ID of the converted dataset (default: $SOURCE_ID); the split gets N + P
  -np N             processes (default: 8)
  --dry-run         print the commands only

The environment variables nnUNet_raw, nnUNet_preprocessed and nnUNet_results name nnU-Net's folders.
END
}

fail() {
  echo "$(basename "$0"): error: $*" >&2
  exit 2
}

run() {
  printf '\n$'
  printf ' %q' "$@"
  printf '\n'
  if [ "$DRY_RUN" = 0 ]; then "$@"; fi
}

# skip_if FILE COMMAND...: a step that has been done before is named and skipped
skip_if() {
  local done_file=$1
  shift
  if [ "$DRY_RUN" = 0 ] && [ -e "$done_file" ]; then
    printf '\n%s is there already; not run again:' "$done_file"
    printf ' %q' "$@"
    printf '\n'
  else
    run "$@"
  fi
}

DOWNLOAD= TRAINER=nnUNetTrainerDyCON FOLD=0 DEVICE=cuda PROCESSES=8 DRY_RUN=0
CONVERT_OPTIONS=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --dry-run) DRY_RUN=1; shift; continue ;;
    --) shift; CONVERT_OPTIONS=("$@"); break ;;
    --labeled | --trainer | --fold | --config | --device | --source-id | -np)
      [ $# -ge 2 ] || fail "$1 needs a value"
      case $1 in
        --labeled) LABELED=$2 ;;
        --trainer) TRAINER=$2 ;;
        --fold) FOLD=$2 ;;
        --config) CONFIG=$2 ;;
        --device) DEVICE=$2 ;;
        --source-id) SOURCE_ID=$2 ;;
        -np) PROCESSES=$2 ;;
      esac
      shift 2
      ;;
    -*) fail "unknown option $1; see --help" ;;
    *)
      [ -z "$DOWNLOAD" ] || fail "one download folder is expected, got $DOWNLOAD and $1"
      DOWNLOAD=$1
      shift
      ;;
  esac
done
[ -n "$DOWNLOAD" ] || { usage >&2; exit 2; }
case " $FRACTIONS " in *" $LABELED "*) ;; *) fail "--labeled $LABELED: choose one of $FRACTIONS" ;; esac
for variable in nnUNet_raw nnUNet_preprocessed nnUNet_results; do
  [ -n "${!variable:-}" ] || fail "the environment variable $variable is not set"
done

TARGET_ID=$((SOURCE_ID + LABELED))
TARGET=$(printf 'Dataset%03d_%s_%s%s' "$TARGET_ID" "$NAME" "$LABELED" "$UNIT")
RAW=$nnUNet_raw/$TARGET
PREPROCESSED=$nnUNet_preprocessed/$TARGET
MODEL=$nnUNet_results/$TARGET/${TRAINER}__nnUNetPlans__$CONFIG
PREDICTIONS=$MODEL/fold_$FOLD/test

run nnunet-dycon convert "$DATASET" --source "$DOWNLOAD" -d "$SOURCE_ID" --name "$NAME" -np "$PROCESSES" \
  ${CONVERT_OPTIONS[@]+"${CONVERT_OPTIONS[@]}"}
skip_if "$RAW/split.json" nnunet-dycon split -d "$SOURCE_ID" -t "$TARGET_ID" \
  --name "${NAME}_${LABELED}${UNIT}" --protocol "$DATASET-$LABELED"
run nnunet-dycon audit -d "$TARGET_ID"
skip_if "$PREPROCESSED/$CONFIG.done" nnUNetv2_plan_and_preprocess -d "$TARGET_ID" \
  --verify_dataset_integrity -c "$CONFIG" -npfp "$PROCESSES" -np "$PROCESSES"
if [ "$DRY_RUN" = 0 ]; then touch "$PREPROCESSED/$CONFIG.done"; fi # nnU-Net does not tell a half-finished run
run nnunet-dycon preprocess -d "$TARGET_ID" -c "$CONFIG" -np "$PROCESSES"
skip_if "$MODEL/fold_$FOLD/checkpoint_final.pth" nnUNetv2_train "$TARGET_ID" "$CONFIG" "$FOLD" -tr "$TRAINER" \
  -device "$DEVICE" --c
run nnUNetv2_predict -d "$TARGET_ID" -i "$RAW/imagesTs" -o "$PREDICTIONS" -c "$CONFIG" -f "$FOLD" -tr "$TRAINER" \
  -device "$DEVICE" --continue_prediction
run nnunet-dycon evaluate --predictions "$PREDICTIONS" --references "$RAW/labelsTs" -np "$PROCESSES"
printf '\nThe same as published papers count, in voxels:\n'
run nnunet-dycon evaluate --predictions "$PREDICTIONS" --references "$RAW/labelsTs" --literature -np "$PROCESSES"
