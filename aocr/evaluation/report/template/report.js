"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 60, HEIGHT = 48, WIDE = 24;
  const cards = document.getElementById("cards"), more = document.getElementById("more");
  const controls = document.getElementById("controls"), count = document.getElementById("count");
  const samples = (lists) => lists.map((list) => {
    const sample = Object.fromEntries(data.fields.map((field, k) => [field, list[k]]));
    sample.label = sample.parts.map((part) => typeof part === "string" ? part : part[1]).join("");
    sample.text = sample.parts.map((part) => typeof part === "string" ? part : part[0]).join("");
    sample.searched = `${sample.text}\n${sample.label}\n${sample.image}`.toLocaleLowerCase();
    return sample;
  });
  const all = samples(data.rows);
  const parts = Object.fromEntries(Object.entries(data.gallery).map(([name, lists]) => [name, samples(lists)]));
  parts.all = all;
  const wide = all.reduce((sum, sample) => sum + sample.length, 0) > WIDE * all.length;
  cards.classList.toggle("wide", wide);
  const orders = {
    record: (a, b) => a.record - b.record,
    least: (a, b) => a.confidence - b.confidence,
    most: (a, b) => b.confidence - a.confidence,
    edits: (a, b) => b.edits - a.edits,
    longest: (a, b) => b.length - a.length,
  };

  function element(tag, name, text) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // The text with its edits. Each character of a sample with attention is an element that knows its step.
  function marked(sample) {
    const line = element("dd", "parts");
    line.dir = "auto";
    let step = 0, written = 0;
    for (const part of sample.parts) {
      let made;
      if (typeof part === "string") {
        made = element("span", "", part);
      } else {
        const [text, label] = part;
        made = element("mark", !label ? "inserted" : !text ? "deleted" : "substituted", visible(text || label));
        made.title = !label ? "not in the label" : !text ? "missing" : `label: ${visible(label)}`;
      }
      if (sample.confidences.length && (typeof part === "string" || part[0])) {
        const percent = sample.confidences[written++];
        made.classList.add(level(percent));
        made.title = [made.title, `confidence ${percent}%`].filter(Boolean).join(", ");
      }
      if (sample.attention && !(typeof part !== "string" && !part[0])) made.dataset.step = step++;
      line.append(made);
    }
    if (!sample.parts.length) line.append(element("span", "empty", "empty"));
    return line;
  }

  const level = (percent) =>
    percent >= 90 ? "sure" : percent >= 70 ? "likely" : percent >= 50 ? "doubtful" : "unsure";

  const visible = (text) => text.replaceAll(" ", "␣");

  function picture(sample) {
    const box = element("div", "picture");
    if (!sample.picture) return box;
    const image = element("img");
    image.alt = sample.label;
    image.onload = () => { image.style.width = `${Math.round(image.naturalWidth * scale(image))}px`; };
    image.src = `data:image/webp;base64,${sample.picture}`;
    box.append(image);
    return box;
  }

  // Low pictures are drawn about HEIGHT pixels high, larger ones as they are.
  const scale = (image) => Math.min(Math.max(HEIGHT / image.naturalHeight, 1), 3);

  // Shows the attention of the step that is pointed at, in the text or in the picture.
  function follow(card, sample) {
    const [columns, encoded] = sample.attention;
    const weights = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
    const steps = weights.length / columns;
    const box = card.querySelector(".picture");
    const canvas = element("canvas");
    canvas.width = columns;
    canvas.height = 1;
    box.append(canvas);

    function show(step) {
      card.querySelectorAll("[data-step]").forEach((made) => {
        made.classList.toggle("looked", Number(made.dataset.step) === step);
      });
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, columns, 1);
      if (step === null || step >= steps) return;
      const pixels = context.createImageData(columns, 1);
      for (let x = 0; x < columns; x++) {
        const weight = weights[step * columns + x] / 255;
        pixels.data.set(weight > 0.5 ? [255, 170, 30, 150 * weight] : [20, 24, 30, 150 * (1 - 2 * weight)], 4 * x);
      }
      context.putImageData(pixels, 0, 0);
    }

    function stepAt(event) {
      const edges = box.getBoundingClientRect();
      const x = Math.floor((event.clientX - edges.left) / edges.width * columns);
      let best = 0;
      for (let step = 1; step < steps; step++) {
        if (weights[step * columns + x] > weights[best * columns + x]) best = step;
      }
      return best;
    }

    box.addEventListener("pointermove", (event) => show(stepAt(event)));
    box.addEventListener("pointerdown", (event) => show(stepAt(event)));
    card.addEventListener("pointerover", (event) => {
      if (event.target.dataset.step !== undefined) show(Number(event.target.dataset.step));
    });
    card.addEventListener("pointerleave", () => show(null));
  }

  function card(sample) {
    const made = element("li", sample.edits ? "wrong" : "correct");
    const texts = element("dl", "texts");
    texts.append(element("dt", "", "read"), marked(sample));
    if (sample.edits) {
      const label = element("dd", "", sample.label);
      label.dir = "auto";
      if (!sample.label) label.append(element("span", "empty", "empty"));
      texts.append(element("dt", "", "label"), label);
    }
    const below = element("div", "below");
    const meter = element("span", "meter"), bar = element("i");
    bar.style.width = `${100 * sample.confidence}%`;
    meter.append(bar);
    const name = element("span", "name");
    name.append(element("bdi", "", sample.image ? sample.image.split("/").pop() : `record ${sample.record}`));
    name.title = `record ${sample.record} ${sample.image}`;
    const edits = sample.edits ? `${sample.edits} ${sample.edits === 1 ? "edit" : "edits"}` : "correct";
    below.append(meter, element("span", "", `${(100 * sample.confidence).toFixed(1)}%`), element("span", "", edits),
                 name);
    made.append(picture(sample), texts, below);
    if (sample.attention) follow(made, sample);
    return made;
  }

  let found = [], shown = 0;

  function extend() {
    const next = found.slice(shown, shown + PAGE);
    cards.append(...next.map(card));
    shown += next.length;
    more.hidden = shown >= found.length;
    more.textContent = `Show more (${(found.length - shown).toLocaleString("en")} left)`;
  }

  // What is shown stands in the address, so that it survives a reload and can be passed on.
  function state() {
    const given = new URLSearchParams(location.hash.slice(1));
    const part = given.get("part");
    return {
      part: part in parts ? part : given.has("q") || given.has("show") || given.has("sort") || !parts.worst.length
        ? "all" : "worst",
      q: given.get("q") || "", show: given.get("show") || "all",
      sort: given.get("sort") in orders ? given.get("sort") : "record",
    };
  }

  function draw() {
    const { part, q, show, sort } = state();
    document.querySelectorAll("[data-part]").forEach((tab) => {
      tab.setAttribute("aria-selected", tab.dataset.part === part);
    });
    controls.hidden = part !== "all";
    for (const [name, value] of Object.entries({ q, show, sort })) {
      if (controls.elements[name].value !== value) controls.elements[name].value = value;
    }
    found = parts[part];
    if (part === "all") {
      const wanted = q.toLocaleLowerCase();
      found = found.filter((sample) => (show === "all" || (show === "wrong") === (sample.edits > 0))
                                       && sample.searched.includes(wanted)).sort(orders[sort]);
    }
    count.textContent = `${found.length.toLocaleString("en")} samples`;
    cards.replaceChildren();
    shown = 0;
    extend();
    document.documentElement.dataset.found = found.length;
  }

  function go(changes) {
    const next = new URLSearchParams({ ...state(), ...changes });
    history.replaceState(null, "", `#${next}`);
    draw();
  }

  let typing;
  controls.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => go(Object.fromEntries(new FormData(controls))), 120);
  });
  controls.addEventListener("submit", (event) => event.preventDefault());
  document.querySelectorAll("[data-part]").forEach((tab) => {
    tab.addEventListener("click", () => go({ part: tab.dataset.part }));
  });
  more.addEventListener("click", extend);
  addEventListener("hashchange", draw);
  draw();
})();
