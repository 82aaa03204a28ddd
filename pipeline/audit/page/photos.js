const PAGE = 50; // rows that are added to the table at a time
const NAMES = [
  "name",
  "status",
  "format",
  "width",
  "height",
  "before",
  "after",
  "rate",
  "quality",
  "reason",
  "drawn",
];
const photos = data.photos.map((row) => {
  const photo = Object.fromEntries(row.map((value, index) => [NAMES[index], value]));
  photo.share = photo.before ? 1 - photo.after / photo.before : 0;
  photo.megapixels = photo.width === null ? null : (photo.width * photo.height) / 1e6;
  photo.text = [photo.name, photo.status, photo.format, photo.reason].join("\n").toLowerCase();
  return photo;
});

// What each column sorts by, its title, what its cells hold, and their class; a phone has no "wide" ones.
const COLUMNS = [
  ["name", "file", nameCell, "name"],
  ["status", "status", (photo) => element("span", { class: `badge ${photo.status}` }, photo.status), "wide"],
  ["megapixels", "megapixels", (photo) => fixed(photo.megapixels, photo.megapixels < 0.1 ? 2 : 1), "number wide"],
  ["before", "before", (photo) => bytes(photo.before), "number wide"],
  ["after", "after", (photo) => bytes(photo.after), "number wide"],
  ["share", "saved", (photo) => share(photo.share), "number"],
  ["rate", "bits per pixel", (photo) => fixed(photo.rate, 3), "number wide"],
  ["quality", "MS-SSIM", (photo) => fixed(photo.quality, 4), "number"],
];
const order = { by: "share", descending: true };
let shown = PAGE;

function nameCell(photo) {
  const cut = photo.name.lastIndexOf("/") + 1;
  const reason = photo.reason === null ? "" : `${photo.status}: ${photo.reason}`;
  const below = [photo.name.slice(0, cut), photo.format, reason].filter(Boolean).join(" · ");
  return element("span", {}, photo.name.slice(cut), element("small", {}, below));
}

// Photos without a value come last, whichever way the others are sorted.
function compare(a, b) {
  const [left, right] = [a[order.by], b[order.by]];
  if (left === null || right === null) return (left === null) - (right === null);
  const ascending = typeof left === "string" ? left.localeCompare(right, "en") : left - right;
  return order.descending ? -ascending : ascending;
}

function showPhotos() {
  const query = document.getElementById("search").value.trim().toLowerCase();
  const found = photos.filter((photo) => photo.text.includes(query)).sort(compare);
  const rows = found.slice(0, shown).map((photo) => {
    const cells = COLUMNS.map(([, , cell, style], index) =>
      element(index ? "td" : "th", index ? { class: style } : { class: style, scope: "row" }, cell(photo)),
    );
    return element("tr", {}, ...cells);
  });
  document.getElementById("photos-body").replaceChildren(...rows);
  const drawn = rows.length < found.length ? `, ${count(rows.length)} shown` : "";
  document.getElementById("photos-status").textContent =
    `${count(found.length)} of ${count(photos.length)} files${drawn}`;
  document.getElementById("more").hidden = rows.length === found.length;
}

function sortBy(key, heading) {
  order.descending = order.by === key ? !order.descending : false;
  order.by = key;
  markOrder(heading);
  showPhotos();
}

function markOrder(heading) {
  document.querySelector("#photos-head [aria-sort]")?.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order.descending ? "descending" : "ascending");
}

function startTable() {
  for (const [key, title, , style] of COLUMNS) {
    const heading = element("th", { scope: "col", class: style });
    heading.append(button(title, () => sortBy(key, heading)));
    document.getElementById("photos-head").append(heading);
    if (key === order.by) markOrder(heading);
  }
  document.getElementById("search").addEventListener("input", () => {
    shown = PAGE;
    showPhotos();
  });
  document.getElementById("more").addEventListener("click", () => {
    shown += PAGE;
    showPhotos();
  });
  showPhotos();
}
