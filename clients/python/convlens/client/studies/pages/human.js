"use strict";

const { classes, guesses } = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const filter = element("filter"), list = element("classes"), picture = element("picture");
// Of the classes that are shown, in their order; z takes back.
const KEYS = [..."1234567890qwertyuiopasdfghjklxcvbnm"];
// Up to so many classes are better seen than sought.
const FEW = 20;

let state = null;
// Whether the last answer is being told, and the answers to the picture that is shown.
let telling = false, busy = false, chosen = [];

async function ask(what, body) {
  if (busy) return;
  busy = true;
  try {
    const answer = await fetch(what, body && {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (![200, 409].includes(answer.status)) throw new Error(answer.status);
    state = await answer.json();
    element("trouble").hidden = true;
    return answer.ok;
  } catch {
    element("trouble").textContent =
      "The study does not answer. What was answered is kept: give the command again and open the address that it names.";
    element("trouble").hidden = false;
    return undefined;
  } finally {
    busy = false;
  }
}

function draw() {
  const { answered, total, table, over } = state;
  const done = answered === total && !telling;
  element("progress").textContent = `${answered} of ${total} answered`;
  element("bar").style.width = `${(100 * answered) / total}%`;
  element("ask").hidden = telling || done || over;
  element("told").hidden = !telling || over;
  element("ending").hidden = !done && !over;
  element("undo").disabled = !answered || over;
  element("enough").disabled = !answered;
  element("enough").hidden = done || over;
  const cells = [...document.querySelectorAll("#table tbody td")];
  table.flat().forEach((number, index) => (cells[index].textContent = number));
  drawRates(table, answered);
  drawPicture(done || over);
  cells.forEach((cell) => cell.classList.remove("now"));
  if (telling) drawTold(cells);
  if (done || over) drawEnding();
  if (!element("ask").hidden) drawChosen();
}

function drawRates([[both, human], [network]], answered) {
  const share = (right) => `${((100 * right) / answered).toFixed(0)} %`;
  element("rates").textContent = answered
    ? `You ${share(both + human)}, the network ${share(both + network)}.`
    : "It fills with your answers.";
}

function drawPicture(none) {
  const number = telling ? state.last.number : state.answered;
  element("shown").hidden = none && !telling;
  const source = `picture/${number}`;
  if ((none && !telling) || picture.getAttribute("src") === source) return;
  picture.alt = `Picture ${number + 1}`;
  picture.src = source;
}
picture.addEventListener("load", () => picture.classList.toggle("small", picture.naturalWidth < 160));

function drawTold(cells) {
  const { truth, human, network, probability } = state.last;
  const right = human[0] === truth, other = network[0] === truth;
  cells[(right ? 0 : 2) + (other ? 0 : 1)].classList.add("now");
  const verdict = element("verdict");
  verdict.textContent = right ? "Right" : human.includes(truth) ? "Not your first answer" : "Wrong";
  verdict.className = right ? "right" : "wrong";
  const row = (name, text, mark) => {
    const line = document.createElement("div");
    const head = document.createElement("dt"), words = document.createElement("dd");
    head.textContent = name;
    words.textContent = text;
    words.className = mark;
    line.append(head, words);
    return line;
  };
  const word = (ok) => (ok ? "right" : "wrong");
  const share = `${(100 * probability).toFixed(0)} %`;
  const names = (numbers) => numbers.map((each) => classes[each]).join(", ");
  const [first, ...rest] = network;
  element("facts").replaceChildren(
    row("It is", classes[truth], ""),
    row("You", names(human), word(right)),
    row("The network", `${classes[first]} (${share})${rest.length ? `, ${names(rest)}` : ""}`, word(other)),
  );
}

function drawEnding() {
  const { answered, total, over } = state;
  const all = answered === total ? `All ${total} pictures are` : `${answered} of ${total} pictures are`;
  element("ending-title").textContent = over ? "Thank you" : "That was the last picture";
  element("ending-words").textContent = over
    ? `${all} answered. What was found is being written; this page can be closed.`
    : `${all} answered. You can still take the last answer back.`;
  element("finish").hidden = over;
}

// The classes that have the words of the filter, in their order; those that begin so come first.
function wanted() {
  const words = filter.value.trim().toLowerCase();
  const numbers = classes.map((_, number) => number);
  if (!words) return numbers;
  const at = numbers.map((number) => classes[number].toLowerCase().indexOf(words));
  const found = numbers.filter((number) => at[number] >= 0);
  return found.sort((a, b) => (at[a] > 0) - (at[b] > 0) || a - b);
}

function drawClasses() {
  list.replaceChildren(...wanted().map((number, place) => {
    const item = document.createElement("li"), button = document.createElement("button");
    const name = document.createElement("span");
    name.textContent = classes[number];
    button.type = "button";
    button.dataset.number = number;
    button.append(name);
    if (KEYS[place]) {
      const key = document.createElement("kbd");
      key.textContent = KEYS[place];
      button.append(key);
    }
    button.addEventListener("click", () => choose(number));
    item.append(button);
    return item;
  }));
  drawChosen();
}

function drawChosen() {
  for (const button of list.querySelectorAll("button")) {
    if (guesses > 1) button.setAttribute("aria-pressed", chosen.includes(Number(button.dataset.number)));
  }
  if (guesses === 1) return;
  element("chosen").replaceChildren(...chosen.map((number) => {
    const item = document.createElement("li");
    item.textContent = classes[number];
    return item;
  }));
  element("answer").disabled = !chosen.length;
}

function choose(number) {
  if (guesses === 1) return answer([number]);
  if (chosen.includes(number)) chosen = chosen.filter((each) => each !== number);
  else if (chosen.length < guesses) chosen.push(number);
  clearFilter();
  drawChosen();
}

function clearFilter() {
  if (!filter.value) return;
  filter.value = "";
  drawClasses();
}

async function answer(numbers) {
  const done = await ask("answer", { number: state.answered, classes: numbers });
  if (done === undefined) return;
  telling = done;
  chosen = [];
  clearFilter();
  draw();
  if (telling) element("next").focus();
}

function next() {
  telling = false;
  draw();
  document.activeElement?.blur();
}

async function undo() {
  if (!state.last || state.over) return;
  if ((await ask("undo", { number: state.last.number })) === undefined) return;
  next();
}

async function end() {
  element("sure").close();
  if ((await ask("enough", {})) === undefined) return;
  next();
}

function askWhetherSure() {
  element("sure-words").textContent =
    `End it with ${state.answered} of ${state.total} pictures answered? What was found of these is written.`;
  element("sure").showModal();
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !state || element("sure").open) return;
  const asking = !element("ask").hidden, typing = document.activeElement === filter;
  if (typing) {
    if (event.key === "Escape") (clearFilter(), filter.blur());
    else if (event.key === "Enter" && wanted().length) (choose(wanted()[0]), filter.blur());
    return;
  }
  const onButton = document.activeElement?.tagName === "BUTTON";
  if (event.key === "Backspace" || event.key === "z") undo();
  else if (event.key === "/" && asking) filter.focus();
  else if (event.key === "Enter" && !onButton && telling) next();
  else if (event.key === "Enter" && !onButton && asking && chosen.length) answer(chosen);
  else if (asking && KEYS.includes(event.key)) list.querySelectorAll("button")[KEYS.indexOf(event.key)]?.click();
  else return;
  event.preventDefault();
});

filter.hidden = classes.length <= FEW;
filter.addEventListener("input", drawClasses);
element("next").addEventListener("click", next);
element("undo").addEventListener("click", undo);
element("enough").addEventListener("click", askWhetherSure);
element("finish").addEventListener("click", end);
element("end").addEventListener("click", end);
element("stay").addEventListener("click", () => element("sure").close());
if (guesses > 1) element("answer").addEventListener("click", () => answer(chosen));
drawClasses();
ask("state").then((done) => done && draw());
