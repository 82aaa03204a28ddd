// Colours are the page's own variables, so that charts follow it into the dark and onto paper.
const theme = {
  background: null,
  padding: 0,
  font: "system-ui, sans-serif",
  customFormatTypes: true,
  view: { stroke: null },
  axis: {
    domain: false,
    gridColor: "var(--line)",
    labelColor: "var(--muted)",
    labelFontSize: 12,
    labelPadding: 6,
    tickColor: "var(--line)",
    titleColor: "var(--muted)",
    titleFontSize: 12,
    titleFontWeight: "normal",
    titlePadding: 10,
  },
  axisX: { grid: false, labelFlush: true },
  axisY: { ticks: false },
  text: { color: "var(--ink)", fontSize: 13 },
};

function draw(id, spec) {
  const place = document.getElementById(id);
  const whole = {
    width: "container",
    autosize: { type: "fit-x", contains: "padding" },
    description: place.dataset.description,
    ...spec,
  };
  // The interpreter of expressions, because the page's policy forbids eval.
  const options = {
    actions: false,
    renderer: "svg",
    ast: true,
    config: theme,
    expressionFunctions: { roundBytes },
  };
  return vegaEmbed(place, whole, options);
}

function drawDistribution(id, name, { bins, step, targets }) {
  const values = bins.map(([from, photos]) => ({ from, to: from + step, photos }));
  const most = Math.max(...values.map((bin) => bin.photos));
  const bars = {
    mark: { type: "rect", color: "var(--saved)", stroke: "var(--paper)", strokeWidth: 1 },
    encoding: {
      x: {
        field: "from",
        type: "quantitative",
        title: name,
        scale: { zero: false, nice: false, padding: 8 },
        axis: { tickCount: 6 },
      },
      x2: { field: "to" },
      y2: { datum: 0 },
      y: { field: "photos", type: "quantitative", title: "photos", axis: { tickCount: Math.min(most, 5) } },
      tooltip: [
        { field: "from", title: "from", format: ".4~f" },
        { field: "to", title: "to", format: ".4~f" },
        { field: "photos", title: "photos", format: "," },
      ],
    },
  };
  draw(id, { height: 200, data: { values }, layer: [bars, ...targets.flatMap(targetMarks)] });
}

function targetMarks(target) {
  const data = { values: [{ target, label: `target ${target}` }] };
  const x = { field: "target", type: "quantitative" };
  return [
    {
      data,
      mark: { type: "rule", color: "var(--target)", strokeWidth: 2, strokeDash: [6, 4] },
      encoding: { x },
    },
    {
      data,
      mark: { type: "text", color: "var(--target)", baseline: "bottom", y: -9, fontWeight: "bold" },
      encoding: { x, text: { field: "label" } },
    },
  ];
}

const roundBytes = (value) => bytes(value).replace(".0", "");

function drawScatter(id, photos) {
  const values = photos
    .filter((photo) => photo.drawn && photo.status === "encoded" && photo.before > photo.after)
    .map((photo) => {
      const saved = photo.before - photo.after;
      return { ...photo, saved, sizes: `${bytes(saved)} of ${bytes(photo.before)}` };
    });
  if (!values.length) return;
  const ends = [Math.min, Math.max].map((end) => Math.log10(end(...values.map((photo) => photo.saved))));
  const decades = ends[1] - ends[0];
  const marks = decades > 4 ? [1] : decades > 2 ? [1, 3] : [1, 2, 5];
  const powers = Array.from({ length: Math.ceil(ends[1]) + 1 }, (_, power) => 10 ** power);
  const ticks = powers.flatMap((power) => marks.map((mark) => mark * power));
  draw(id, {
    height: 340,
    data: { values },
    mark: { type: "circle", color: "var(--saved)", size: 60, opacity: 0.75, aria: false },
    encoding: {
      x: {
        field: "quality",
        type: "quantitative",
        title: "MS-SSIM",
        scale: { zero: false, nice: false, padding: 10 },
        axis: { tickCount: 6 },
      },
      y: {
        field: "saved",
        type: "quantitative",
        title: "saved, logarithmic",
        scale: { type: "log", padding: 10, nice: false },
        axis: { formatType: "roundBytes", values: ticks },
      },
      tooltip: [
        { field: "name", title: "photo" },
        { field: "sizes", title: "saved" },
        { field: "quality", title: "MS-SSIM", format: ".4f" },
        { field: "rate", title: "bits per pixel", format: ".3f" },
      ],
    },
  });
}
