"use strict";
/* Numbers as src/weft/report/packing.py packs them; what a packed list is stands there. */
const packing = (() => {
  const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const values = new Map([...DIGITS].map((digit, value) => [digit, value]));

  /* A list of numbers, null where one is not known; undefined stays undefined. */
  function unpacked(text) {
    if (text === undefined) return undefined;
    if (text === "") return [];
    const width = Number(text[0]);
    const end = text.indexOf(";");
    const rest = text.slice(end + 1);
    const beside = new Map(rest ? rest.split(",").map((one) => one.split("=").map(Number)) : []);
    const found = [];
    for (let at = 1; at < end; at += width) {
      let value = 0;
      for (let digit = 0; digit < width; digit++) value = 64 * value + values.get(text[at + digit]);
      const place = (at - 1) / width;
      found.push(value < 64 ** width - 1 ? value : beside.has(place) ? beside.get(place) : null);
    }
    return found;
  }
  return { unpacked };
})();
