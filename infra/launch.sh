#!/usr/bin/env bash
# Builds and pushes the images of the commit that is checked out, and launches a job with them.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: infra/launch.sh INPUT OUTPUT [PARAMETER=VALUE]... [-- GCLOUD_FLAG...]

  INPUT        the photos: gs:// prefix, object or glob, in the bucket that Terraform was told of
  OUTPUT       gs:// prefix in the output bucket that Terraform has made
  PARAMETER    target_ms_ssim, max_bpp, iterations, inventory, gpu_type or gpu_machine_type:
               see infra/template/metadata.json
  GCLOUD_FLAG  of `gcloud dataflow flex-template run`, such as --max-workers 32

needs docker, gcloud (signed in), git and terraform (applied in infra/terraform)
TEXT
}

fail() {
  echo "infra/launch.sh: $1" >&2
  exit "${2:-1}"
}

if [[ ${1:-} == --help ]]; then
  usage
  exit
fi
if (($# < 2)); then
  usage >&2
  exit 2
fi
input=$1
output=$2
shift 2
[[ $input == gs://?* ]] || fail "INPUT is $input; it begins with gs://" 2
# ^|^ has gcloud part the parameters at | instead of at commas, which the names of objects may have.
parameters="^|^input=$input|output=$output"
[[ $input$output != *'|'* ]] || fail "a | in INPUT or OUTPUT would end it there" 2
while (($# > 0)) && [[ $1 != -- ]]; do
  [[ $1 =~ ^[a-z_]+=[^|]+$ ]] || fail "$1: PARAMETER=VALUE is needed, or -- first" 2
  parameters+="|$1"
  shift
done
(($# == 0)) || shift # --

for command in docker gcloud git terraform; do
  command -v "$command" >/dev/null || fail "$command is not installed"
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."

made() {
  terraform -chdir=infra/terraform output -raw "$1" || fail "no output $1: apply infra/terraform first"
}
project=$(made project)
region=$(made region)
registry=$(made registry)
temp_bucket=$(made temp_bucket)
output_bucket=$(made output_bucket)
worker=$(made worker)
[[ $output/ == "gs://$output_bucket/"* ]] ||
  fail "OUTPUT is $output; the workers can only write to gs://$output_bucket" 2

# The tag says what is in the images; it has to be true.
[[ -z $(git status --porcelain) ]] || fail "there are changes that are not committed: commit them first"
tag=$(git rev-parse --short=12 HEAD)

gcloud auth configure-docker "${registry%%/*}" --quiet
for image in worker launcher; do
  name=$registry/$image:$tag
  if ! gcloud artifacts docker images describe "$name" --project "$project" >/dev/null 2>&1; then
    docker build --platform linux/amd64 --file "infra/$image/Dockerfile" --tag "$name" .
    docker push "$name"
  fi
done

template=gs://$temp_bucket/templates/rgc-$tag.json
gcloud dataflow flex-template build "$template" \
  --project "$project" \
  --image "$registry/launcher:$tag" \
  --sdk-language PYTHON \
  --metadata-file infra/template/metadata.json

gcloud dataflow flex-template run "rgc-$(date -u +%Y%m%d-%H%M%S)" \
  --project "$project" \
  --region "$region" \
  --template-file-gcs-location "$template" \
  --service-account-email "$worker" \
  --temp-location "gs://$temp_bucket/temp" \
  --staging-location "gs://$temp_bucket/staging" \
  --additional-pipeline-options "sdk_container_image=$registry/worker:$tag" \
  --parameters "$parameters" \
  "$@"
