if (photos.length) {
  startTable();
  openFolder(folders[0]);
}
if (data.ms_ssim && data.bits_per_pixel) {
  drawDistribution("ms-ssim", "MS-SSIM", data.ms_ssim);
  drawDistribution("bits-per-pixel", "bits per pixel", data.bits_per_pixel);
  drawScatter("scatter", photos);
}

// The tables behind the charts belong on paper, too.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
});
