// Sets the theme before the first paint; a classic script, so that it runs ahead of the modules.
// `data-theme` on the root element is always "light" or "dark"; a stored choice wins over the system's.
(() => {
  const KEY = "couplet-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try {
    chosen = localStorage.getItem(KEY);
  } catch {
    // Storage may be forbidden; then the choice lasts as long as the page.
  }
  const apply = () => {
    const dark = chosen === "dark" || (chosen !== "light" && system.matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  };
  system.addEventListener("change", apply);
  document.addEventListener("couplet:theme", () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(KEY, chosen);
    } catch {
      // See above.
    }
    apply();
  });
  apply();
})();
