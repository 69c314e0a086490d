// The options form while it stands open: what is free, what these choices come to, and a link to them.
"use strict";

(function () {
  const root = document.querySelector(".ds01-form");
  if (!root) return;
  const form = root.closest("form");
  const { newsUrl, newsToken, server } = root.dataset;
  const headers = { Authorization: `token ${newsToken}` };
  const find = (name, within = root) => within.querySelector(`[data-ds01="${name}"]`);
  const setText = (node, text) => {
    if (node && node.textContent !== text) node.textContent = text;
  };

  // What is free ------------------------------------------------------------------------------------

  function showSlots(row, slots) {
    const bar = row.querySelector(".ds01-bar");
    if (!bar) return;
    bar.style.setProperty("--free", slots.free);
    bar.style.setProperty("--total", slots.total);
    setText(find("count", row), slots.count);
  }

  function showNews(news) {
    for (const slots of news.slots) {
      for (const row of root.querySelectorAll(`tr[data-slots="${CSS.escape(slots.profile)}"]`)) showSlots(row, slots);
      const option = form.querySelector(`#ds01-gpu_profile option[value="${CSS.escape(slots.profile)}"]`);
      if (option) setText(option, slots.label);
    }
    for (const card of root.querySelectorAll(".ds01-card[data-wish]")) {
      const prospect = news.prospects[card.dataset.wish];
      if (!prospect) continue;
      const radio = card.querySelector("input[type=radio]");
      const slots = news.slots.find((one) => one.profile === card.dataset.wish.split(":")[0]);
      if (slots) showSlots(card, slots);
      setText(find("reason", card), prospect.reason);
      // What is chosen stays chosen: its reason says what the start would answer.
      radio.disabled = prospect.barred && !radio.checked;
    }
  }

  function followNews() {
    const wishes = new Set([...root.querySelectorAll("[data-wish]")].map((card) => card.dataset.wish));
    const query = new URLSearchParams([["server", server], ...[...wishes].map((wish) => ["want", wish])]);
    return window.ds01.poll(`${newsUrl}api/availability?${query}`, {
      headers,
      onData: showNews,
      onTrouble: (trouble) => setText(find("news"), {
        refused: "This page has stood open for long: load it anew to see what is free now.",
        away: "What is free is not known just now; it is asked again.",
      }[trouble] || ""),
    });
  }

  // What these choices come to ----------------------------------------------------------------------

  function readChoices() {
    const choices = new URLSearchParams();
    for (const [name, value] of new FormData(form)) {
      if (typeof value === "string" && value && name !== "_xsrf") choices.append(name, value);
    }
    return choices;
  }

  async function ask(what) {
    const query = new URLSearchParams({ server });
    const answer = await fetch(`${newsUrl}api/${what}?${query}`, { method: "POST", headers, body: readChoices() });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.message);
    return found;
  }

  let asked = 0;

  async function showPreview() {
    const number = ++asked;
    const summary = root.querySelector(".ds01-summary");
    try {
      const found = await ask("preview");
      // An older answer may come after a newer one.
      if (number !== asked) return;
      for (const name of ["gets", "holds", "image", "problem"]) {
        const node = find(name, summary);
        setText(node, found[name]);
        const row = node.tagName === "DD" ? [node, node.previousElementSibling] : [node];
        for (const part of row) part.hidden = !found[name];
      }
      summary.hidden = false;
      if (find("dockerfile", summary).open) showDockerfile();
    } catch (error) {
      console.warn("what these choices come to is not known:", error);
      summary.hidden = true;
    }
  }

  async function showDockerfile() {
    const shown = find("dockerfile").querySelector("pre");
    try {
      setText(shown, (await ask("dockerfile")).dockerfile);
    } catch (error) {
      setText(shown, error.message);
    }
  }

  function followChoices() {
    let timer = 0;
    const later = () => {
      clearTimeout(timer);
      timer = setTimeout(showPreview, 400);
    };
    form.addEventListener("input", later);
    form.addEventListener("change", later);
    find("dockerfile").addEventListener("toggle", (event) => event.target.open && showDockerfile());
    showPreview();
  }

  // A link to them ----------------------------------------------------------------------------------

  async function copyLink() {
    const query = new URLSearchParams([...readChoices()].map(([name, value]) => [`opt-${name}`, value]));
    const link = `${location.origin}${location.pathname}?${query}`;
    try {
      await navigator.clipboard.writeText(link);
      setText(find("linked"), "Copied. It opens this form filled, and starts nothing.");
    } catch {
      // Without TLS a page may not write there.
      window.prompt("A link to these choices:", link);
    }
  }

  // Framework, then its version ---------------------------------------------------------------------

  function splitFrameworks() {
    const both = form.querySelector("#ds01-framework");
    const label = form.querySelector('label[for="ds01-framework"]');
    if (!both || !both.querySelector("optgroup")) return;
    const [framework, version] = ["framework-name", "framework-version"].map((name) => {
      const select = document.createElement("select");
      select.id = `ds01-${name}`;
      select.className = both.className;
      return select;
    });
    framework.setAttribute("aria-describedby", both.getAttribute("aria-describedby") || "");
    const versionLabel = document.createElement("label");
    versionLabel.className = "form-label mt-2";
    versionLabel.htmlFor = version.id;
    versionLabel.textContent = "Version";
    framework.append(new Option(both.options[0].text, ""));
    for (const group of both.querySelectorAll("optgroup")) framework.append(new Option(group.label, group.label));

    function listVersions(chosen) {
      const group = [...both.querySelectorAll("optgroup")].find((one) => one.label === framework.value);
      const options = group ? [...group.children] : [];
      version.replaceChildren(...options.map((one) => new Option(one.text, one.value, false, one.value === chosen)));
      version.hidden = versionLabel.hidden = !options.length;
      both.value = version.value;
    }

    framework.value = both.selectedOptions[0]?.closest("optgroup")?.label || "";
    listVersions(both.value);
    framework.addEventListener("change", () => listVersions(""));
    version.addEventListener("change", () => (both.value = version.value));
    label.htmlFor = framework.id;
    label.textContent = "Framework";
    both.hidden = true;
    both.after(framework, versionLabel, version);
  }

  // To look packages up takes seconds, in which the page must not look as if nothing happened.
  function followStart() {
    const button = form.querySelector("button[type=submit]");
    const words = button.textContent;
    form.addEventListener("submit", () => {
      button.disabled = true;
      button.textContent = "Starting: looking at your choices…";
    });
    // Back from the next page, which the browser may show as it was left.
    window.addEventListener("pageshow", () => {
      button.disabled = false;
      button.textContent = words;
    });
  }

  splitFrameworks();
  followStart();
  for (const name of ["packages", "system_packages"]) {
    const area = form.querySelector(`#ds01-${name}`);
    if (area) window.ds01.showChips(area);
  }
  find("link").addEventListener("click", copyLink);
  if (newsUrl) {
    followNews();
    followChoices();
  }
})();
