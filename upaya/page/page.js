"use strict";

const WORDS = { live: "live", dead: "dead", dead_all_wrong: "dead, all wrong", dead_all_right: "dead, all right" };
const byId = (id) => document.getElementById(id);
const all = (selector) => [...document.querySelectorAll(selector)];

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/* Figures */

function themed(layout) {
  const style = getComputedStyle(document.documentElement);
  const [ink, soft, line, paper] = ["--ink", "--soft", "--line", "--paper"].map((name) => style.getPropertyValue(name).trim());
  const changes = { "font.color": ink, "font.family": getComputedStyle(document.body).fontFamily,
    "hoverlabel.bgcolor": paper, "hoverlabel.font.color": ink };
  for (const axis of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
    changes[`${axis}.gridcolor`] = line;
    changes[`${axis}.linecolor`] = soft;
    changes[`${axis}.zerolinecolor`] = line;
  }
  return changes;
}

async function draw(place, figure) {
  await Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false });
  await Plotly.relayout(place, themed(place.layout));
}

async function drawVisible(data) {
  for (const place of all(".figure")) {
    if (place.dataset.drawn || place.closest("[hidden]")) continue;
    place.dataset.drawn = "yes";
    const { figure, of } = place.dataset;
    await draw(place, of ? data.figures[of][figure] : data.together[figure]);
  }
}

/* Groups */

class Browser {
  constructor(groups) {
    this.all = groups;
    this.slider = document.querySelector(".steps input");
    this.fate = document.querySelector("[data-chooses=fate]");
    this.question = document.querySelector("[data-chooses=question]");
    this.slider.addEventListener("input", () => this.show());
    for (const chooser of [this.fate, this.question]) chooser.addEventListener("change", () => this.choose());
    for (const button of all("[data-go]")) {
      button.addEventListener("click", () => {
        this.slider.value = Number(this.slider.value) + Number(button.dataset.go);
        this.show();
      });
    }
  }

  open(curriculum) {
    this.of = this.all[curriculum];
    const often = new Map();
    for (const group of this.of.groups) often.set(group.question, (often.get(group.question) || 0) + 1);
    this.question.replaceChildren(element("option", "", "any"));
    this.question.firstChild.value = "";
    for (const [id, count] of [...often].filter((each) => each[1] > 1).sort((a, b) => b[1] - a[1])) {
      const option = element("option", "", `${id}, kept ${count} times`);
      option.value = id;
      this.question.append(option);
    }
    this.choose();
  }

  choose() {
    const { fate, question } = this;
    this.shown = this.of.groups.filter((group) =>
      (!fate.value || (group.trained === "live") === (fate.value === "live")) &&
      (!question.value || group.question === question.value));
    this.slider.max = Math.max(0, this.shown.length - 1);
    this.slider.value = 0;
    this.show();
  }

  show() {
    const place = byId("group");
    const group = this.shown[Number(this.slider.value)];
    if (!group) {
      place.replaceChildren(element("p", "note", "No such group was kept."));
      return;
    }
    const { prompt, right } = this.of.questions[group.question];
    const asked = element("blockquote", "", prompt);
    const answer = element("p", "", `right: ${Array.isArray(right) ? right.join("、") : right}`);
    asked.lang = answer.lang = "zh-Hans";
    const met = element("ul", "met");
    met.append(element("li", "", `under the reward trained on: ${WORDS[group.trained]}`));
    for (const [regime, fate] of Object.entries(group.fates)) met.append(element("li", "", `${regime}: ${WORDS[fate]}`));
    const where = element("p", "", "");
    where.append(element("strong", "", `step ${group.step}`),
      ` · ${group.question} · ${Number(this.slider.value) + 1} of ${this.shown.length}`);
    this.slider.setAttribute("aria-valuetext", `step ${group.step}`);
    place.replaceChildren(where, asked, answer, met, ...group.completions.map(completion));
  }
}

function completion(one) {
  const row = element("div", "completion");
  const says = element("div", "says");
  says.lang = "zh-Hans";
  if (one.text !== null) says.append(element("span", "wrong", one.text || "nothing"), " (no answer)");
  else {
    if (one.malformed) says.append(element("em", "", "malformed: "));
    one.items.forEach((item, place) => {
      if (place) says.append("、");
      says.append(element("span", one.hits[place] ? "right" : "wrong", item === null ? "∅" : item));
    });
  }
  const worth = element("div", "worth");
  Object.entries(one.rewards).forEach(([regime, reward], place) => {
    worth.append(place ? " · " : "", `${regime} `, element("b", "", reward.toFixed(2)));
  });
  const pushes = Object.values(one.advantages);
  if (pushes.length) {
    const [low, high] = [Math.min(...pushes), Math.max(...pushes)].map((push) => (push > 0 ? "+" : "") + push.toFixed(2));
    worth.append(element("div", "", `advantage ${low === high ? low : `${low} to ${high}`}`));
  }
  row.append(element("div", one.exact ? "hit" : "miss", " "), says, worth);
  return row;
}

/* The page */

(async () => {
  const data = JSON.parse(await unpacked("data"));
  const script = document.createElement("script");
  script.textContent = await unpacked("plotly");
  document.head.append(script);
  const browser = new Browser(data.groups);
  browser.open(Object.keys(data.groups)[0]);
  for (const what of ["curriculum", "axis"]) {
    const chooser = document.querySelector(`[data-chooses=${what}]`);
    chooser?.addEventListener("change", async () => {
      for (const part of all(`[data-${what}]`)) part.hidden = part.dataset[what] !== chooser.value;
      if (what === "curriculum") browser.open(chooser.value);
      await drawVisible(data);
    });
  }
  await drawVisible(data);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const place of all(".figure[data-drawn]")) Plotly.relayout(place, themed(place.layout));
  });
  document.documentElement.dataset.ready = "yes";
})();
