/* The reader of texts. Texts reach the page through textContent only; the state stands in the address. */
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const LISTED = 2000;
  const COLUMNS = 8;
  const SURPRISE = [10, 50, 100, 200, 300, 500, 700, 1000];
  const WRITERS = { s: "student", t: "teacher", u: "not known" };

  function make(tag, kind, text) {
    const element = document.createElement(tag);
    if (kind) element.className = kind;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  if (!$("app")) return;
  $("app").hidden = false;

  // -- state --

  const texts = data.texts;
  const opened = new Map();
  /* Pieces and numbers of a text; of the last few texts they are kept. */
  function open(at) {
    if (!opened.has(at)) {
      const text = texts[at];
      let place = 0;
      const t = packing.unpacked(text.c).map((length) => text.t.slice(place, (place += length)));
      const [n, e, r, y] = [text.n, text.e, text.r, text.y].map(packing.unpacked);
      if (opened.size > 50) opened.clear();
      const counts = packing.unpacked(text.w);
      const who = [...text.who].map((writer, turn) => [writer, counts[turn]]);
      opened.set(at, { t, who, n, e, r, y });
    }
    return opened.get(at);
  }
  const byKey = new Map(texts.map((text, at) => [text.key, at]));
  const together = new Map();
  texts.forEach((text, at) => {
    if (!together.has(text.p)) together.set(text.p, []);
    together.get(text.p).push(at);
  });
  const filters = ["source", "strategy", "status", "flag"];
  const fields = [...filters, "q", "min", "max"];
  const known = {
    surprise: texts.some((text) => text.n),
    style: texts.some((text) => text.y),
  };
  const state = { at: 0, view: "author", side: false };
  let moved = false;
  let matching = texts.map((_, at) => at);

  function option(select, value, text) {
    const one = make("option", "", text);
    one.value = value;
    select.append(one);
  }
  function fill(name, values, all, words) {
    const select = $(name);
    option(select, "", all);
    for (const value of values) option(select, value, words ? words(value) : value);
    select.parentElement.hidden = values.length < 2;
  }
  const different = (name) => [...new Set(texts.map((text) => text[name]).filter(Boolean))];
  const own = new Set(data.own);
  const called = (source) => (own.has(source) ? `${source} (the student’s own)` : source);
  fill("source", different("source"), "all", called);
  fill("strategy", different("strategy"), "all");
  fill("status", different("status"), "all", (status) => status.replaceAll("_", " "));
  const flags = different("flag").map((flag) => `=${flag}`);
  const outliers = texts.some((text) => text.z !== undefined);
  fill("flag", [...(outliers ? ["outlier", "ordinary"] : []), ...flags], "all", (flag) => flag.replace(/^=/, ""));
  document.querySelector("#filters fieldset").hidden = !known.surprise;

  // -- filters --

  const search = new Map();
  function searched(at) {
    if (!search.has(at)) {
      const text = texts[at];
      const prompt = data.prompts[text.p];
      const asked = prompt ? prompt.m.map((message) => message[1]).join("\n") : "";
      search.set(at, `${text.id}\n${asked}\n${text.t}`.toLowerCase());
    }
    return search.get(at);
  }
  function matches(text, at, wanted) {
    for (const name of ["source", "strategy", "status"]) {
      if (wanted[name] && text[name] !== wanted[name]) return false;
    }
    if (wanted.flag === "outlier" && text.z === undefined) return false;
    if (wanted.flag === "ordinary" && text.z !== undefined) return false;
    if (wanted.flag.startsWith("=") && text.flag !== wanted.flag.slice(1)) return false;
    if (wanted.min !== "" && !(text.mean >= Number(wanted.min))) return false;
    if (wanted.max !== "" && !(text.mean <= Number(wanted.max))) return false;
    return !wanted.q || searched(at).includes(wanted.q.toLowerCase());
  }
  function filter() {
    const wanted = Object.fromEntries(fields.map((name) => [name, $(name).value]));
    matching = [];
    texts.forEach((text, at) => {
      if (matches(text, at, wanted)) matching.push(at);
    });
    if (!matching.includes(state.at) && matching.length) state.at = matching[0];
    list();
    show();
  }

  // -- list --

  function list() {
    const shown = matching.slice(0, LISTED).map((at) => {
      const text = texts[at];
      const button = make("button");
      button.type = "button";
      button.tabIndex = -1;
      button.dataset.at = at;
      button.append(make("span", "id", text.id));
      const mean = text.mean === undefined ? "" : ` · ${text.mean.toFixed(2)} nats`;
      const of = [called(text.source)];
      if (text.strategy && text.strategy !== text.source) of.push(text.strategy);
      button.append(make("span", "of", of.join(" · ") + mean));
      if (text.status !== "complete") button.append(" ", make("span", "chip bad", text.status.replaceAll("_", " ")));
      if (text.z !== undefined) button.append(" ", make("span", "chip fair", "outlier"));
      const item = make("li");
      item.append(button);
      return item;
    });
    if (matching.length > LISTED) {
      const left = (matching.length - LISTED).toLocaleString("en");
      shown.push(make("li", "more", `${left} more: filter or search to see them here`));
    }
    if (!matching.length) shown.push(make("li", "more", "No text matches. Clear the filters to see all."));
    $("list").replaceChildren(...shown);
  }
  function markCurrent() {
    const list = $("list");
    for (const one of list.querySelectorAll("[aria-current]")) one.removeAttribute("aria-current");
    const current = list.querySelector(`[data-at="${state.at}"]`);
    /* One stop for the tab key, however many texts there are; the arrow keys walk. */
    for (const one of list.querySelectorAll('[tabindex="0"]')) one.tabIndex = -1;
    const stop = current || list.querySelector("button");
    if (stop) stop.tabIndex = 0;
    if (!current) return;
    current.setAttribute("aria-current", "true");
    const top = current.offsetTop - list.offsetTop;
    if (top < list.scrollTop || top + current.offsetHeight > list.scrollTop + list.clientHeight) {
      list.scrollTop = top - list.clientHeight / 3;
    }
  }

  // -- one text --

  const level = (hundredths) => SURPRISE.filter((edge) => hundredths >= edge).length;

  function pieces(at, start, end, box) {
    const text = texts[at];
    const { t, who: turns, n, y } = open(at);
    let first = 0;
    for (const [who, count] of turns) {
      const from = Math.max(first, start);
      const to = Math.min(first + count, end);
      first += count;
      if (from >= to) continue;
      const run = make("span", `run ${who}`);
      for (let place = from; place < to; place++) {
        if (text.gap && text.gap[0] === place) run.append(gap(text));
        let kind = "tok";
        if (n) kind += ` n${n[place] === null ? 8 : level(n[place])}`;
        if (y && y[place] !== null) kind += ` y${Math.min(8, Math.floor(y[place] * 0.09))}`;
        const piece = make("span", kind, t[place]);
        piece.dataset.i = place;
        piece.tabIndex = -1;
        run.append(piece);
      }
      box.append(run);
    }
    if (text.gap && text.gap[0] === end && end === t.length) box.append(gap(text));
  }
  function gap(text) {
    return make("span", "cut", `… ${text.gap[1].toLocaleString("en")} characters left out …`);
  }
  function part(at, title, start, end) {
    const box = make("p", `text by-${viewOf(at)}`);
    pieces(at, start, end, box);
    return [make("h4", "", title), box];
  }
  function viewOf(at) {
    const text = texts[at];
    if (state.view === "surprise" && text.n) return "surprise";
    return state.view === "style" && text.y ? "style" : "author";
  }

  function meta(text) {
    const line = make("div", "meta");
    const bad = text.status !== "complete";
    line.append(make("span", bad ? "chip bad" : "chip", text.status.replaceAll("_", " ")));
    if (text.z !== undefined) line.append(make("span", "chip fair", `outlier, z ${text.z.toFixed(1)}`));
    if (text.flag) line.append(make("span", "chip", text.flag));
    const said = [];
    if (text.mean !== undefined) said.push(`${text.mean.toFixed(3)} nats per token`);
    if (text.tokens !== undefined) said.push(`${text.tokens.toLocaleString("en")} tokens`);
    if (text.turns) said.push(text.turns === 1 ? "1 turn" : `${text.turns.toLocaleString("en")} turns`);
    if (text.by && text.by[0] + text.by[1]) {
      said.push(`teacher ${Math.round((100 * text.by[1]) / (text.by[0] + text.by[1]))}%`);
    }
    line.append(make("span", "", said.join(" · ")));
    return line;
  }
  function share(text) {
    const bar = make("div", "share");
    bar.setAttribute("aria-hidden", "true");
    text.by.forEach((count, at) => {
      const one = make("i", at ? "t" : "s");
      one.style.flex = `${count} 0 0`;
      if (count) bar.append(one);
    });
    return bar;
  }
  function asked(key) {
    const prompt = data.prompts[key];
    const shown = [];
    if (!prompt) return shown;
    for (const [role, content, thinking] of prompt.m) {
      shown.push(make("h4", "", role === "user" ? "Prompt" : `Prompt, ${role}`));
      if (thinking) shown.push(make("p", "text prompt", thinking));
      shown.push(make("p", "text prompt", content));
    }
    if (prompt.a !== undefined) shown.push(make("h4", "", "Expected answer"), make("p", "text prompt", prompt.a));
    return shown;
  }
  function article(at, alone) {
    const text = texts[at];
    const box = make("article", !alone && at === state.at ? "current" : "");
    box.dataset.at = at;
    box.append(make("h3", "", alone ? text.id : `${called(text.source)}${text.strategy && text.strategy !== text.source ? ` · ${text.strategy}` : ""}`));
    if (!alone) box.append(make("div", "meta", text.id));
    else box.append(make("div", "meta", [called(text.source), text.strategy !== text.source && text.strategy].filter(Boolean).join(" · ")));
    box.append(meta(text));
    if (text.by && text.by[0] + text.by[1]) box.append(share(text));
    if (text.reason) box.append(make("p", "warning", `Not complete: ${text.reason}`));
    if (text.unread) box.append(make("p", "warning", `The student could not read it: ${text.unread}`));
    if (alone) box.append(...asked(text.p));
    const end = open(at).t.length;
    if (text.think) box.append(...part(at, "Thinking", 0, text.think));
    if (end > text.think) box.append(...part(at, "Response", text.think, end));
    if (!end) box.append(make("p", "note", "No text was written."));
    return box;
  }
  function show() {
    const pane = $("pane");
    details();
    if (!matching.length) {
      pane.replaceChildren(make("p", "note", "No text matches."));
      $("place").textContent = "none of " + texts.length.toLocaleString("en");
      return;
    }
    const group = together.get(texts[state.at].p);
    const beside = state.side && group.length > 1;
    pane.classList.toggle("side", beside);
    if (beside) {
      const box = make("div", "asked");
      box.append(...asked(texts[state.at].p));
      const columns = make("div", "texts");
      const from = Math.max(0, Math.min(group.indexOf(state.at) - COLUMNS / 2, group.length - COLUMNS));
      const shown = group.slice(from, from + COLUMNS);
      columns.append(...shown.map((at) => article(at, false)));
      if (shown.length < group.length) {
        const which = `${from + 1} to ${from + shown.length} of ${group.length.toLocaleString("en")}`;
        box.append(make("p", "note", `Texts ${which} of this prompt; go on to see the others.`));
      }
      pane.replaceChildren(box, columns);
    } else {
      pane.replaceChildren(article(state.at, true));
    }
    pane.scrollTop = 0;
    for (const one of pane.querySelectorAll("article")) one.querySelector(".tok")?.setAttribute("tabindex", "0");
    const place = (matching.indexOf(state.at) + 1).toLocaleString("en");
    const left = matching.length === texts.length ? "" : ` (${texts.length.toLocaleString("en")} in all)`;
    $("place").textContent = `${place} of ${matching.length.toLocaleString("en")}${left}`;
    const side = $("side");
    side.setAttribute("aria-pressed", String(state.side));
    side.disabled = group.length < 2 && !state.side;
    side.title = group.length < 2 ? "No other text of this prompt is in the page" : `${group.length} texts of this prompt`;
    for (const one of document.querySelectorAll("[data-view]")) {
      const view = one.dataset.view;
      one.setAttribute("aria-checked", String(view === state.view));
      one.tabIndex = view === state.view ? 0 : -1;
      one.disabled = view !== "author" && !known[view];
      one.title = one.disabled ? `Not measured: give the readings of weft gap style${view === "style" ? ", with a boundary" : ""}` : "";
    }
    legend();
    markCurrent();
    remember();
  }
  function legend() {
    const view = viewOf(state.at);
    const shown = [];
    if (view === "author") {
      const shownTexts = [...$("pane").querySelectorAll("article")].map((one) => texts[one.dataset.at]);
      const who = new Set(shownTexts.flatMap((text) => [...text.who]));
      for (const one of who) {
        const sample = make("span", "by-author");
        sample.append(make("span", `k run ${one}`, one === "u" ? "writer not known" : WRITERS[one]));
        shown.push(sample, " ");
      }
    } else if (view === "surprise") {
      shown.push("nats: ");
      for (let at = 0; at <= SURPRISE.length; at++) {
        const from = at ? SURPRISE[at - 1] / 100 : 0;
        shown.push(make("span", `k n${at}`, at === SURPRISE.length ? `${from}+` : `${from}`));
      }
    } else {
      shown.push("probability of style: ");
      for (let at = 0; at <= 8; at++) shown.push(make("span", `k y${at}`, (at / 9).toFixed(1)));
    }
    if (view !== state.view) shown.push(` (this text was not measured by ${state.view})`);
    $("legend").replaceChildren(...shown);
  }

  // -- one token --

  function details(piece) {
    const bar = $("details");
    if (!piece) {
      bar.replaceChildren(make("span", "quiet", "Point at a token, or walk with the arrow keys, to see what is known of it."));
      return;
    }
    const number = Number(piece.closest("article").dataset.at);
    const text = texts[number];
    const { t, who: turns, n, e, r, y } = open(number);
    const at = Number(piece.dataset.i);
    const whole = t[at].length > 60 ? `${t[at].slice(0, 60)}…` : t[at];
    const shown = [make("code", "", whole.replaceAll("\n", "⏎").replaceAll("\t", "⇥"))];
    function fact(name, value) {
      const one = make("span", "", `${name} `);
      one.append(make("b", "", value));
      shown.push(one);
    }
    const hundredths = (value, unit) => (value === null ? "–" : `${(value / 100).toFixed(2)}${unit}`);
    if (n) fact("surprise", hundredths(n[at], " nats"));
    if (r) fact("rank", r[at] === null ? "–" : r[at].toLocaleString("en"));
    if (e) fact("entropy", hundredths(e[at], " nats"));
    if (y) fact("style", hundredths(y[at], ""));
    let writer = "u";
    let before = 0;
    for (const [who, count] of turns) {
      if (at < before + count) { writer = who; break; }
      before += count;
    }
    fact("author", WRITERS[writer]);
    const joined = text.j && text.j.find((one) => one[0] === at);
    if (joined) fact("tokens", `${joined[1]} (surprise summed, worst rank)`);
    if (!n) shown.push(make("span", "quiet", text.unread ? "not read" : "no readings of this text"));
    bar.replaceChildren(...shown);
  }
  const pane = $("pane");
  const pieceOf = (event) => event.target.closest(".tok");
  pane.addEventListener("mouseover", (event) => { if (pieceOf(event)) details(pieceOf(event)); });
  pane.addEventListener("focusin", (event) => { if (pieceOf(event)) details(pieceOf(event)); });
  pane.addEventListener("mouseleave", () => {
    const focused = document.activeElement;
    details(focused && focused.classList.contains("tok") ? focused : undefined);
  });
  pane.addEventListener("click", (event) => { if (pieceOf(event)) focusPiece(pieceOf(event)); });
  function focusPiece(piece) {
    for (const one of piece.closest("article").querySelectorAll('.tok[tabindex="0"]')) one.tabIndex = -1;
    piece.tabIndex = 0;
    piece.focus();
  }
  function step(piece, by) {
    const all = [...piece.closest("article").querySelectorAll(".tok")];
    const at = Math.max(0, Math.min(all.length - 1, all.indexOf(piece) + by));
    focusPiece(all[at]);
  }

  // -- going on --

  function go(by) {
    const at = matching.indexOf(state.at) + by;
    if (at < 0 || at >= matching.length) return;
    state.at = matching[at];
    show();
  }
  function setView(view) {
    if (view !== "author" && !known[view]) return;
    state.view = view;
    show();
  }
  function toggleSide() {
    state.side = !state.side;
    show();
  }
  const keys = {
    j: () => go(1), k: () => go(-1), s: toggleSide,
    1: () => setView("author"), 2: () => setView("surprise"), 3: () => setView("style"),
    "/": () => { $("q").focus(); $("q").select(); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    const typing = target.matches("input, select, textarea");
    if (event.key === "Escape" && (typing || target.closest("#pane"))) {
      ($("list").querySelector('[aria-current="true"]') || $("list").querySelector("button"))?.focus();
      event.preventDefault();
      return;
    }
    if (typing) return;
    const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -1e9, End: 1e9 };
    if (target.classList.contains("tok") && event.key in steps) {
      step(target, steps[event.key]);
      event.preventDefault();
    } else if (target.dataset.view && ["ArrowRight", "ArrowLeft"].includes(event.key)) {
      const all = [...document.querySelectorAll("[data-view]:enabled")];
      const next = all[(all.indexOf(target) + steps[event.key] + all.length) % all.length];
      setView(next.dataset.view);
      next.focus();
      event.preventDefault();
    } else if (target.closest("#list") && ["ArrowDown", "ArrowUp"].includes(event.key)) {
      go(event.key === "ArrowDown" ? 1 : -1);
      $("list").querySelector('[aria-current="true"]')?.focus();
      event.preventDefault();
    } else if (Object.hasOwn(keys, event.key)) {
      keys[event.key]();
      event.preventDefault();
    }
  });
  $("previous").addEventListener("click", () => go(-1));
  $("next").addEventListener("click", () => go(1));
  $("side").addEventListener("click", toggleSide);
  for (const one of document.querySelectorAll("[data-view]")) {
    one.addEventListener("click", () => setView(one.dataset.view));
  }
  $("list").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    state.at = Number(button.dataset.at);
    show();
  });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("input", filter);
  $("clear").addEventListener("click", () => {
    for (const name of fields) $(name).value = "";
    filter();
  });

  // -- the address keeps the place --

  function remember() {
    if (!moved) return;
    const place = new URLSearchParams({ t: texts[state.at].key });
    if (state.view !== "author") place.set("view", state.view);
    if (state.side) place.set("side", "1");
    for (const name of fields) if ($(name).value) place.set(name, $(name).value);
    try {
      history.replaceState(null, "", `#${place}`);
    } catch {
      /* Browsers refuse it in sandboxed frames and to whoever asks too often: reading goes on without. */
    }
  }
  function recall() {
    const place = new URLSearchParams(location.hash.slice(1));
    const at = byKey.get(place.get("t"));
    if (at === undefined) return false;
    for (const name of fields) $(name).value = place.get(name) || "";
    for (const name of filters) if ($(name).selectedIndex < 0) $(name).value = "";
    state.at = at;
    state.side = place.get("side") === "1";
    state.view = Object.hasOwn(known, place.get("view")) ? place.get("view") : "author";
    filter();
    return true;
  }
  addEventListener("hashchange", () => {
    if (recall()) $("reader").scrollIntoView();
  });
  if (recall()) $("reader").scrollIntoView();
  else filter();
  moved = true;
})();
