"use strict";

const STEP = 100; // rows shown, and added by "Show more"
const TOKENS = 5; // shown in a row of the table
const LEGEND =
  "Underlined: the most active token, its activation on the left. Background: activation at each token, relative to " +
  "the unit's largest; orange is positive, blue negative.";

const data = JSON.parse(document.getElementById("data").textContent);
const body = document.getElementById("units").tBodies[0];
const heads = document.getElementById("units").tHead.rows[0].cells;
const query = document.getElementById("query");
const whole = document.getElementById("whole");
const more = document.getElementById("more");
const count = document.getElementById("count");
const dialog = document.getElementById("details");
const content = document.getElementById("details-content");

let units = data.units;
let shown = STEP;
let matches = []; // for each piece of text, true if it is searched for
let order = { key: "frequency", ascending: false };

/** Returns an element with children, which are elements or text. Text never becomes markup. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Returns a token as it is compared with a query: without signs of spaces and of words that go on. */
function plain(token) {
  return token.toLowerCase().replaceAll("␣", " ").replace(/^##(?=.)/, "").trim();
}

const plainPieces = data.pieces.map(plain);

/** Returns the pieces that a unit is found by: its top tokens, and the marked tokens of its contexts. */
function keysOf(unit) {
  return [...unit.tokens, ...unit.contexts.map((context) => context.pieces[context.marked])];
}

function valueOf(unit, key) {
  if (key === "share") return unit.shares[0] ?? 0;
  return key === "largest" ? Math.abs(unit.largest) : unit[key];
}

function select() {
  const wanted = plain(query.value);
  const found = (piece) => wanted !== "" && (whole.checked ? piece === wanted : piece.includes(wanted));
  matches = plainPieces.map(found);
  units = data.units.filter((unit) => wanted === "" || keysOf(unit).some((piece) => matches[piece]));
  const sign = order.ascending ? 1 : -1;
  units.sort((a, b) => sign * (valueOf(a, order.key) - valueOf(b, order.key)) || a.unit - b.unit);
  shown = STEP;
  draw();
}

function draw() {
  for (const head of heads) {
    const key = head.querySelector("button")?.dataset.key;
    if (key) head.setAttribute("aria-sort", key !== order.key ? "none" : order.ascending ? "ascending" : "descending");
  }
  body.replaceChildren(...units.slice(0, shown).map(rowOf));
  more.hidden = units.length <= shown;
  const listed = Math.min(shown, units.length);
  const some = listed < units.length ? `, the first ${listed.toLocaleString("en")} shown` : "";
  count.textContent = `${units.length.toLocaleString("en")} units${query.value ? " found" : ""}${some}`;
}

function rowOf(unit) {
  const button = element("button", { type: "button", "aria-haspopup": "dialog" }, String(unit.unit));
  const numbers = [percent(unit.frequency), unit.largest, percent(unit.shares[0] ?? 0)];
  const row = element("tr", {}, element("th", { scope: "row" }, button));
  row.append(...numbers.map((number) => element("td", { "data-number": "" }, String(number))));
  row.append(element("td", {}, ...shownTokens(unit).map(chipOf)));
  row.unit = unit;
  return row;
}

/** Returns the first top tokens of a unit, and all others that are searched for, each once. */
function shownTokens(unit) {
  const tokens = unit.tokens.filter((piece, i) => i < TOKENS || matches[piece]);
  const known = new Set(tokens.map((piece) => plainPieces[piece]));
  for (const piece of keysOf(unit)) {
    if (!matches[piece] || known.has(plainPieces[piece])) continue;
    known.add(plainPieces[piece]);
    tokens.push(piece);
  }
  return tokens;
}

function percent(share) {
  return `${Number((100 * share).toPrecision(3))}%`;
}

function chipOf(piece) {
  return element("span", { class: matches[piece] ? "token found" : "token" }, data.pieces[piece].trim());
}

/** Returns a context: a piece of text for each token, coloured by the unit's activation relative to its largest. */
function contextOf(context, unit) {
  const line = element("p", { class: "context" });
  context.pieces.forEach((piece, place) => {
    const code = context.codes[place];
    const span = element(place === context.marked ? "mark" : "span", {}, data.pieces[piece]);
    if (code) {
      span.classList.add(code > 0 ? "positive" : "negative");
      span.style.setProperty("--level", Math.abs(code / unit.largest));
    }
    if (code !== null) span.title = String(code);
    line.append(span);
  });
  const value = element("td", { "data-number": "" }, String(context.codes[context.marked]));
  return element("tr", {}, value, element("td", {}, line));
}

function show(unit) {
  const values = { frequency: percent(unit.frequency), "largest activation": unit.largest };
  const list = Object.entries(values).map(([key, value]) =>
    element("div", {}, element("dt", {}, key), element("dd", {}, String(value))),
  );
  const tokens = unit.tokens.map((piece, i) => element("li", {}, chipOf(piece), ` ${percent(unit.shares[i])}`));
  content.replaceChildren(
    element("h2", { id: "details-title" }, `Unit ${unit.unit}`),
    element("dl", {}, ...list),
    element("h3", {}, "Top tokens, by their share of the unit's activity"),
    element("ul", { class: "tokens" }, ...tokens),
    element("h3", {}, "Contexts in which it is most active"),
    element("p", { class: "quiet" }, LEGEND),
    element("table", { class: "contexts" }, element("tbody", {}, ...unit.contexts.map((context) => contextOf(context, unit)))),
  );
  dialog.showModal();
  dialog.scrollTop = 0;
}

document.getElementById("units").tHead.addEventListener("click", (event) => {
  const key = event.target.closest("th")?.querySelector("button")?.dataset.key;
  if (!key) return;
  order = { key, ascending: order.key === key ? !order.ascending : key === "unit" };
  select();
});
body.addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (row && getSelection().isCollapsed) show(row.unit);
});
query.addEventListener("input", select);
whole.addEventListener("change", select);
document.getElementById("search").addEventListener("submit", (event) => event.preventDefault());
more.addEventListener("click", () => {
  shown += STEP;
  draw();
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
dialog.addEventListener("close", () => content.replaceChildren());

select();
