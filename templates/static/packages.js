// A field of packages as chips: what stands in its textarea, one package a line, is what is sent.
"use strict";

window.ds01 = window.ds01 || {};

/** Show the packages of `area` as chips with a field to add one; `area` keeps the value. */
window.ds01.showChips = function (area) {
  // A name, with extras or a version behind it, and nothing begun that a version would still follow.
  const whole = /^[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]\s]*\])?([<>=!~]=?[^\s,]+(,[<>=!~]=?[^\s,]+)*)?$/;
  const box = document.createElement("div");
  const input = document.createElement("input");
  const label = document.querySelector(`label[for="${area.id}"]`);
  box.className = "ds01-chips form-control font-monospace";
  if (area.classList.contains("is-invalid")) box.classList.add("is-invalid");
  input.type = "text";
  input.id = `${area.id}-add`;
  input.autocomplete = "off";
  input.spellcheck = false;
  input.maxLength = 200;
  for (const name of ["aria-describedby", "aria-invalid"]) {
    if (area.hasAttribute(name)) input.setAttribute(name, area.getAttribute(name));
  }
  label.htmlFor = input.id;
  area.hidden = true;
  area.after(box);
  box.append(input);

  const read = () => area.value.split("\n").map((line) => line.trim()).filter(Boolean);

  function write(packages) {
    area.value = packages.join("\n");
    area.dispatchEvent(new Event("change", { bubbles: true }));
    draw();
  }

  function draw() {
    for (const chip of box.querySelectorAll(".ds01-chip")) chip.remove();
    input.placeholder = area.value ? "" : area.placeholder.split("\n")[0];
    read().forEach((name, place) => {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.className = "ds01-chip";
      chip.textContent = `${name} ×`;
      chip.setAttribute("aria-label", `Remove ${name}`);
      chip.addEventListener("click", () => {
        write(read().filter((_, other) => other !== place));
        input.focus();
      });
      input.before(chip);
    });
  }

  function add(text) {
    const packages = read();
    for (const line of text.split("\n").map((one) => one.trim().replace(/,+$/, "")).filter(Boolean)) {
      // `torch >= 2` is typed with a space, after which `torch` looked whole.
      if (/^[<>=!~]/.test(line) && packages.length) packages.push(`${packages.pop()}${line}`);
      else packages.push(line);
    }
    input.value = "";
    write(packages);
  }

  input.addEventListener("keydown", (event) => {
    const ends = event.key === "Enter" || ((event.key === " " || event.key === ",") && whole.test(input.value.trim()));
    if (ends && input.value.trim()) {
      event.preventDefault();
      add(input.value);
    } else if (event.key === "Backspace" && !input.value) {
      write(read().slice(0, -1));
    }
  });
  input.addEventListener("paste", (event) => {
    const text = event.clipboardData.getData("text");
    if (!/[\n ]/.test(text.trim())) return;
    event.preventDefault();
    add(input.value + text.split(/\r?\n/).flatMap((line) => (line.split(/\s+/).every((word) => whole.test(word)) ? line.split(/\s+/) : [line])).join("\n"));
  });
  input.addEventListener("blur", () => input.value.trim() && add(input.value));
  draw();
};
