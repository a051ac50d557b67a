"use strict";
// The content is one JSON document. The list shows the utterances that pass the filters, the panel the selected one.
const at = (id) => document.getElementById(id);
const content = JSON.parse(at("content").textContent);
const { columns, metrics, utterances } = content;
const [LOW_HZ, HIGH_HZ, PHONES_PX, SEEK_SECONDS] = [60, 600, 32, 0.5];
const spoken = columns.flatMap((column, place) => column.version === "synthesis" ? [place] : []);

function element(tag, properties = {}, ...children) {
  const { role, label, ...rest } = properties;
  const node = Object.assign(document.createElement(tag), rest);
  if (role) node.setAttribute("role", role);
  if (label) node.setAttribute("aria-label", label);
  node.append(...children);
  return node;
}

// An element with a class and a text.
const words = (tag, className, textContent, more = {}) => element(tag, { className, textContent, ...more });

// ---- sounds: versions of utterances, of which one plays at a time

const sounds = new Map();
let playing = null;

function soundOf(utterance, place) {
  const key = `${utterance.id}/${place}`;
  if (!sounds.has(key)) {
    const audio = new Audio(utterance.versions[place].audio);
    for (const event of ["play", "pause", "ended", "seeked"]) audio.addEventListener(event, () => requestAnimationFrame(showProgress));
    sounds.set(key, audio);
  }
  return sounds.get(key);
}

// A volume cannot exceed 1, so all sounds of an utterance are attenuated to the quietest.
function volumeOf(utterance, place) {
  const levels = utterance.versions.map((version) => version.lufs).filter((level) => level !== null);
  const own = utterance.versions[place].lufs;
  return at("match").checked && own !== null ? 10 ** ((Math.min(...levels) - own) / 20) : 1;
}

function play(utterance, place, seconds = 0) {
  const audio = soundOf(utterance, place);
  if (playing && playing !== audio) playing.pause();
  playing = audio;
  audio.volume = volumeOf(utterance, place);
  audio.currentTime = seconds;
  audio.play().catch((error) => { if (error.name !== "AbortError") say(`Cannot play this sound: ${error.message}`); });
}

function stop() { playing?.pause(); playing = null; }
function say(message) { at("status").textContent = message; }

// ---- the list

const view = { shown: utterances, current: utterances[0], place: 0, descending: false };

function sortKey(utterance) {
  const metric = at("sort").value, of = at("of").value;
  if (metric === "number") return [utterance.number, ""];
  if (metric === "text") return [utterance.text, ""];
  if (metric === "seconds") {
    const { seconds } = utterance.versions[of.split(",")[0]];
    return [seconds, `${seconds.toFixed(1)} s`];
  }
  return (of.includes(",") ? utterance.differences[of] : utterance.versions[of].figures)[metric] ?? [null, "–"];
}

function showList() {
  const query = at("search").value.trim().toLowerCase(), sign = view.descending ? -1 : 1;
  const keys = new Map(utterances.map((utterance) => [utterance, sortKey(utterance)]));
  view.shown = utterances.filter((utterance) => (utterance.text + " " + utterance.id).toLowerCase().includes(query)
    && ["speaker", "language"].every((name) => ["", utterance[name]].includes(at(name).value)));
  view.shown.sort((left, right) => {
    const [a, b] = [keys.get(left)[0], keys.get(right)[0]];
    if (a === null || b === null) return (a === null) - (b === null); // missing values come last in both directions
    return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
  });
  at("of").disabled = ["number", "text"].includes(at("sort").value);
  at("list").replaceChildren(...view.shown.map((utterance) => {
    const parts = [words("span", "number", utterance.number), words("span", "words", utterance.text, { lang: utterance.lang }),
      words("span", "figure", keys.get(utterance)[1])];
    return element("li", {}, element("button", { type: "button", onclick: () => select(utterance) }, ...parts));
  }));
  if (!view.shown.length) at("list").append(words("li", "note", "No utterance matches the filters."));
  if (!view.shown.includes(view.current) && view.shown.length) select(view.shown[0]);
  else markCurrent();
}

function markCurrent() {
  [...at("list").querySelectorAll("button")].forEach((button, place) => {
    if (view.shown[place] === view.current) { button.setAttribute("aria-current", "true"); scrollIntoList(button); }
    else button.removeAttribute("aria-current");
  });
}

function scrollIntoList(button) {
  const list = at("list"), top = button.offsetTop - list.offsetTop;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + button.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top + button.offsetHeight - list.clientHeight;
}

function step(by) {
  const next = view.shown[view.shown.indexOf(view.current) + by];
  if (next) select(next);
}

// ---- the selected utterance

function select(utterance) {
  stop();
  sounds.clear();
  view.current = utterance;
  view.place = 0;
  const seconds = Math.max(...utterance.versions.map((version) => version.seconds));
  const lanes = utterance.versions.map((version, place) => lane(utterance, version, place, seconds));
  at("utterance").replaceChildren(
    element("h3", { id: "text", lang: utterance.lang, textContent: utterance.text }),
    words("p", "identity soft", [utterance.number, utterance.id, utterance.speaker, utterance.language].join(" · ")),
    ...utterance.notes.map((note) => words("p", "warning", note)),
    ...lanes, element("div", { className: "lane" }, ruler(seconds)), ...figures(utterance));
  markCurrent();
  say(`${view.shown.indexOf(utterance) + 1} of ${view.shown.length}: ${utterance.text}`);
  drawAll();
}

function lane(utterance, version, place, seconds) {
  const { name } = columns[place], length = version.seconds.toFixed(1);
  const button = element("button", { type: "button", className: "second play", onclick: () => toggle(place) },
    words("span", "", name), words("kbd", "", place + 1, { ariaHidden: "true" }));
  button.setAttribute("aria-pressed", "false");
  const canvas = element("canvas", { role: "img", label: `${name}: spectrogram, pitch and phones, ${length} seconds` });
  const track = element("div", { className: "track" }, canvas, element("div", { className: "playhead", hidden: true }));
  track.addEventListener("click", (event) => {
    const box = track.getBoundingClientRect(), clicked = (event.clientX - box.left) / box.width * seconds;
    view.place = place;
    play(utterance, place, Math.min(clicked, version.seconds - 0.01));
  });
  const heard = element("p", { className: "heard", hidden: !version.heard }, words("span", "soft", "recognised: "),
    ...differences(version, utterance.lang));
  if (version.transcript) heard.append(words("span", "soft", " transcript: "), words("span", "", version.transcript, { lang: utterance.lang }));
  const badge = words("p", "badge", `${version.origin} · ${length} s`);
  return element("section", { className: "lane", label: name }, element("div", {}, button, badge), track, heard);
}

function differences(version, lang) {
  const marked = (tag, lead, part) => part ? [element(tag, { lang }, words("span", "unseen", lead), part), " "] : [];
  const parts = (version.heard ?? []).flatMap(([kind, said, heard]) => kind === "equal" ? [element("span", { lang, textContent: heard }), " "]
    : [...marked("del", "not recognised: ", said), ...marked("ins", "recognised, not in the text: ", heard)]);
  return parts.length ? parts : ["nothing"];
}

function ruler(seconds) {
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10].find((size) => seconds / size <= 10) ?? 30, marks = [];
  for (let mark = 0; mark <= seconds; mark += step) marks.push(mark);
  return element("div", { className: "ruler", ariaHidden: "true" }, ...marks.map((mark) => {
    const label = element("span", { textContent: `${Number(mark.toFixed(1))} s` });
    label.style.left = `${100 * mark / seconds}%`;
    return label;
  }));
}

function figures(utterance) {
  const title = "Figures of this utterance", head = (text, className = "") => words("th", className, text, { scope: "col" });
  const rows = metrics.filter(({ key }) => utterance.versions.some((version) => key in version.figures)).map(({ key, name, direction }) => {
    const cells = utterance.versions.map((version) => words("td", "number", version.figures[key]?.[1] ?? "–"));
    return element("tr", {}, words("th", "", name, { scope: "row" }), words("td", "direct", direction), ...cells);
  });
  const names = element("tr", {}, head("Figure"), head("Direction"), ...columns.map((column) => head(column.name, "number")));
  const table = element("table", {}, element("thead", {}, names), element("tbody", {}, ...rows));
  return [words("h4", "", title), element("div", { className: "scroll", tabIndex: 0, role: "region", label: title }, table)];
}

function toggle(place) {
  const audio = soundOf(view.current, place);
  view.place = place;
  if (!audio.paused) audio.pause();
  else play(view.current, place, audio.ended ? 0 : audio.currentTime);
}

function showProgress() {
  const seconds = Math.max(...view.current.versions.map((version) => version.seconds));
  at("utterance").querySelectorAll("section.lane").forEach((section, place) => {
    const audio = sounds.get(`${view.current.id}/${place}`), head = section.querySelector(".playhead");
    section.querySelector(".play").setAttribute("aria-pressed", String(Boolean(audio && !audio.paused)));
    head.hidden = !audio || (audio.paused && !audio.currentTime);
    if (audio) head.style.left = `${100 * audio.currentTime / seconds}%`;
  });
  if (playing && !playing.paused) requestAnimationFrame(showProgress);
}

// ---- pictures

const COLOURS = [[11, 8, 20], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];

function colour(level) {
  const place = level / 255 * (COLOURS.length - 1), low = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[low].map((value, i) => value + (place - low) * (COLOURS[low + 1][i] - value));
}

async function coloured(address) {
  const picture = new Image();
  picture.src = address;
  await picture.decode();
  const canvas = element("canvas", { width: picture.width, height: picture.height }), context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height), table = Array.from({ length: 256 }, (_, level) => colour(level));
  for (let i = 0; i < pixels.data.length; i += 4) pixels.data.set(table[pixels.data[i]], i);
  context.putImageData(pixels, 0, 0);
  return canvas;
}

async function drawAll() {
  const { current } = view, seconds = Math.max(...current.versions.map((version) => version.seconds));
  const pictures = await Promise.all(current.versions.map((version) => coloured(version.spectrogram)));
  if (current !== view.current) return;
  at("utterance").querySelectorAll(".track canvas").forEach((canvas, place) => draw(canvas, current.versions[place], pictures[place], seconds));
}

function draw(canvas, version, picture, seconds) {
  const box = canvas.getBoundingClientRect(), scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(box.width * scale);
  canvas.height = Math.round(box.height * scale);
  const context = canvas.getContext("2d"), height = box.height - PHONES_PX, x = (time) => time / seconds * box.width;
  context.scale(scale, scale);
  context.drawImage(picture, 0, PHONES_PX, x(version.seconds), height);
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "center";
  version.phones.forEach(([phone, start, end], i) => {
    context.fillStyle = "rgb(255 255 255 / .45)";
    context.fillRect(x(end), PHONES_PX - 4, 1, height + 4);
    context.fillStyle = "#fff";
    context.fillText(phone, x((start + end) / 2), i % 2 ? 25 : 12); // alternating heights, so that labels of short phones do not overlap
  });
  context.strokeStyle = "#3df5a0";
  context.lineWidth = 2;
  context.beginPath();
  version.f0.forEach((hertz, i) => {
    if (!hertz) return;
    const y = PHONES_PX + height * (1 - Math.log(hertz / LOW_HZ) / Math.log(HIGH_HZ / LOW_HZ));
    context[version.f0[i - 1] ? "lineTo" : "moveTo"](x(i * content.pitch_seconds), y);
  });
  context.stroke();
}

// ---- keys

const browsing = {
  j: () => step(1), k: () => step(-1), " ": () => toggle(view.place), r: () => play(view.current, view.place),
  ArrowLeft: () => seek(-SEEK_SECONDS), ArrowRight: () => seek(SEEK_SECONDS), "?": () => at("help").showModal(),
};

function seek(seconds) {
  const audio = soundOf(view.current, view.place);
  audio.currentTime = Math.max(0, audio.currentTime + seconds);
}

function keysNow() {
  if (at("rating").hidden) {
    const versions = columns.slice(0, 9).map((_, place) => [place + 1, () => { view.place = place; play(view.current, place); }]);
    return { ...browsing, ...Object.fromEntries(versions) };
  }
  const common = { "?": browsing["?"], u: () => session && undo(), r: () => trial && hear([...trial.heard].pop() ?? 0) };
  return trial ? { ...common, ...(session.mode === "ab" ? choosing : scoring) } : common;
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("select, input:not([type=checkbox]):not([type=radio])");
  const pressing = event.key === " " && event.target.matches("button, input, a");
  const scrolling = event.key.startsWith("Arrow") && event.target.matches(".scroll, input");
  if (!at("shortcuts").checked || at("help").open || typing || pressing || scrolling || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = keysNow()[event.key];
  if (act) { event.preventDefault(); act(); }
});

// ---- start

const add = (id, text, value) => at(id).add(new Option(text, value));

function start() {
  for (const name of ["speaker", "language"]) {
    for (const value of [...new Set(utterances.map((utterance) => utterance[name]))].sort()) add(name, value, value);
  }
  for (const [value, text] of Object.entries({ number: "order", text: "text", seconds: "length" })) add("sort", text, value);
  for (const { key, name } of metrics) add("sort", name, key);
  const others = [...columns.keys()].filter((place) => !spoken.includes(place));
  for (const place of [...spoken, ...others]) add("of", columns[place].name, place);
  for (const key of Object.keys(utterances[0].differences)) add("of", key.split(",").map((place) => columns[place].name).join(" minus "), key);
  at("toolbar").addEventListener("submit", (event) => event.preventDefault());
  at("toolbar").addEventListener("input", (event) => { if (event.target !== at("match")) showList(); });
  at("direction").addEventListener("click", () => {
    view.descending = !view.descending;
    at("direction").setAttribute("aria-pressed", String(view.descending));
    showList();
  });
  at("rate").addEventListener("click", showRating);
  at("keys").addEventListener("click", () => at("help").showModal());
  let width = 0; // height changes only with the utterance, which is drawn anyway
  new ResizeObserver(([entry]) => {
    if (entry.contentRect.width !== width) drawAll();
    width = entry.contentRect.width;
  }).observe(at("utterance"));
  if (session) at("rate").textContent = "Resume rating";
  showList();
  select(view.current);
}
