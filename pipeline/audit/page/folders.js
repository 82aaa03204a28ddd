const BARS = 12; // of one folder in the chart; the table has all
const ROW = 48; // pixels
const folders = data.folders.map((folder, index) => ({ ...folder, index, inside: [] }));
for (const folder of folders) {
  folder.left = folder.before - folder.saved;
  folder.share = share(folder.before ? folder.saved / folder.before : 0);
  folders[folder.parent]?.inside.push(folder);
}
for (const folder of folders) folder.inside.sort((a, b) => a.is_rest - b.is_rest || b.saved - a.saved);
const saving = (folder) => `${bytes(folder.saved)} saved, ${folder.share}`;

function openFolder(folder) {
  const inside = folder.inside.length ? folder.inside : [{ ...folder, name: "all files" }];
  const drawn = inside.filter((each) => !each.is_rest).slice(0, BARS);
  document.getElementById("crumbs").replaceChildren(...crumbs(folder));
  document.getElementById("folders-table").replaceChildren(...inside.map(folderRow));
  document.getElementById("folders-status").textContent = summary(inside, drawn);
  return drawFolders(drawn);
}

function summary(inside, drawn) {
  if (drawn.length === inside.length) return inside.length === 1 ? "1 entry" : `${inside.length} entries`;
  const rest = inside.find((each) => each.is_rest);
  const smaller = rest ? `; in all smaller folders together ${saving(rest)}` : "";
  return `The ${drawn.length} that save most, of ${count(inside.length)} in the table${smaller}`;
}

// What had the focus is gone once another folder is open: its successor gets it.
async function openAndFocus(folder, place) {
  await openFolder(folder);
  const next = document.getElementById(place).querySelector("button, [role=button]");
  (next ?? document.querySelector("#crumbs button"))?.focus();
}

function crumbs(folder) {
  const path = [];
  for (let each = folder; each; each = folders[each.parent]) path.unshift(each);
  return path.map((each) =>
    each === folder
      ? element("li", { "aria-current": "true" }, each.name)
      : element(
          "li",
          {},
          button(each.name, () => openAndFocus(each, "crumbs")),
        ),
  );
}

function folderRow(folder) {
  const opens = folder.inside.length > 0;
  const name = opens ? button(folder.name, () => openAndFocus(folder, "folders-table")) : folder.name;
  const figures = [count(folder.photos), bytes(folder.before), bytes(folder.saved), folder.share];
  const cells = figures.map((figure) => element("td", { class: "number" }, figure));
  return element("tr", {}, element("th", { scope: "row", class: "text" }, name), ...cells);
}

async function drawFolders(shown) {
  const values = shown.map(({ inside, ...folder }) => ({
    ...folder,
    opens: inside.length > 0,
    label: inside.length ? `${folder.name} \u203a` : folder.name,
    saving: saving(folder),
  }));
  const longest = Math.max(...values.map((folder) => folder.before), 1);
  const bar = { type: "bar", height: 10, yOffset: 10, aria: false };
  const text = { type: "text", yOffset: -8, aria: false };
  const whole = { x: { value: 0 }, x2: { value: "width" } };
  await draw("folders", {
    height: ROW * values.length,
    data: { values },
    encoding: { y: { field: "index", type: "nominal", sort: null, axis: null, scale: { padding: 0 } } },
    layer: [
      {
        mark: { ...bar, color: "var(--left)" },
        encoding: { x: { field: "left", type: "quantitative", axis: null, scale: { domain: [0, longest] } } },
      },
      {
        mark: { ...bar, color: "var(--saved)" },
        encoding: { x: { field: "left", type: "quantitative" }, x2: { field: "before" } },
      },
      {
        mark: { ...text, align: "left", limit: { expr: "width - 165" } },
        encoding: { x: { value: 0 }, text: { field: "label" } },
      },
      {
        mark: { ...text, align: "right", color: "var(--muted)" },
        encoding: { x: { value: "width" }, text: { field: "saving" } },
      },
      {
        name: "rows", // what one presses
        transform: [{ filter: "datum.opens" }],
        mark: { type: "bar", height: { band: 1 }, fill: "transparent", ariaRole: "button" },
        encoding: { ...whole, description: { field: "name" } },
      },
    ],
  });
  makePressable(shown.filter((folder) => folder.inside.length));
}

// Vega's marks take neither focus nor keys.
function makePressable(opening) {
  document.querySelectorAll("#folders [role=button]").forEach((row, index) => {
    const open = () => openAndFocus(opening[index], "folders");
    row.setAttribute("tabindex", "0");
    row.addEventListener("click", open);
    row.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      open();
    });
  });
}
