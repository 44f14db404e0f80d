/* Light or dark, and paper: what is folded is printed open. */
(() => {
  const root = document.documentElement;
  const name = document.getElementById("theme-name");
  const button = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  function setTheme(theme) {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    name.textContent = theme;
  }
  function nextTheme() {
    const now = name.textContent;
    setTheme(themes[(themes.indexOf(now) + 1) % themes.length]);
  }
  button.hidden = false;
  button.addEventListener("click", nextTheme);

  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of folded) one.open = false;
  });
})();
