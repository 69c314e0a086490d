// The words of the lab's page: for slots, GPUs, measures and moments.
"use strict";

window.ds01 = window.ds01 || {};

window.ds01.words = (function () {
  const nameProfile = (profile) => (profile === "full" ? "full GPU" : profile);
  const nameGpu = (gpu) => (gpu.id ? `GPU ${gpu.id}` : "A GPU that is not there");
  const nameSlot = (slot) => slot.id || slot.uuid;

  function writeMemory(mib) {
    return `${Number((mib / 1024).toPrecision(4))} GiB`;
  }

  function writeUse(use) {
    if (!use) return "";
    const parts = [];
    if (use.utilisation_percent !== null) parts.push(`${use.utilisation_percent} %`);
    if (use.memory_used_mib !== null) parts.push(writeMemory(use.memory_used_mib));
    return parts.join(", ");
  }

  function writeSummary(lab) {
    const { free, slots: all, mine } = lab.count;
    const waiting = lab.queue.length;
    return (
      `${free} of ${all} slots free` + (mine ? `, ${mine} yours` : "") + (waiting ? `, ${waiting} waiting` : "")
    );
  }

  // times: moments in the page, words as the browser has them -------------------------------------------

  function writeSpan(seconds) {
    const minutes = Math.floor(seconds / 60);
    if (minutes < 1) return "under 1 min";
    if (minutes < 60) return `${minutes} min`;
    const hours = Math.floor(minutes / 60);
    return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
  }

  // A line breaks before a bracket, not within a time.
  const tie = (words) => words.replaceAll(" ", "\u00a0");

  function writeMoment(element) {
    const at = new Date(element.dataset.at);
    const isToday = at.toDateString() === new Date().toDateString();
    const day = isToday ? {} : { day: "numeric", month: "short" };
    const words = at.toLocaleString([], { ...day, hour: "2-digit", minute: "2-digit" });
    const seconds = (Date.now() - at) / 1000;
    if (element.dataset.field === "since") return `${tie(words)} (${tie(writeSpan(Math.max(0, seconds)))})`;
    if (element.dataset.field === "until" && seconds < 0) return `${tie(words)} (${tie(writeSpan(-seconds))}\u00a0left)`;
    return tie(words);
  }

  return { nameProfile, nameGpu, nameSlot, writeMemory, writeUse, writeSummary, writeMoment };
})();
