// Joined into one module with charts.js, folders.js, photos.js and start.js, which runs after Vega's.
const data = JSON.parse(document.getElementById("data").textContent);

// All text enters the document as text, never as HTML: names of photos are anyone's.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function button(label, onClick) {
  const made = element("button", { type: "button" }, label);
  made.addEventListener("click", onClick);
  return made;
}

const count = (value) => value.toLocaleString("en-US");
const share = (value) => `${(100 * value).toFixed(1)}%`;
const fixed = (value, digits) => (value === null ? "" : value.toFixed(digits));

// As rgc's terminal writes sizes.
function bytes(value) {
  const size = Math.abs(value);
  if (size < 1000) return `${value}\u00a0${size === 1 ? "byte" : "bytes"}`;
  const power = Math.min(Math.floor(Math.log10(size) / 3), 6);
  const digits = { minimumFractionDigits: 1, maximumFractionDigits: 1 };
  return `${(value / 1000 ** power).toLocaleString("en-US", digits)}\u00a0${" kMGTPE"[power]}B`;
}
