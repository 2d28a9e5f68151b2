// Airflow 3's component: a React frame around the page, which has no framework. React is the UI's own; nothing is built.

import { mount } from "./warehouse.js";

const { createElement, useEffect, useRef } = globalThis.React;
const base = new URL("..", import.meta.url).pathname.replace(/\/$/, "");
const airflowBase = base.replace(/\/nyc-taxi\/warehouse$/, "");

// Airflow makes the component anew whenever the address changes, even if only after "#". The page outlives that, with what
// is selected in it and what it has asked; it ends when no component has taken it over.
const LINGER = 500;
let kept = null;

function begin(place) {
  const made = { host: document.createElement("div"), navigate: null, timer: null };
  place.append(made.host);
  made.end = mount(made.host, { base, airflowBase, airflow: 3, navigate: (path) => made.navigate(path), csrf: null });
  return made;
}

function TaxiWarehouse() {
  const place = useRef(null);
  const navigate = globalThis.ReactRouterDOM.useNavigate();
  useEffect(() => {
    // The page's own colours follow the UI's switch, not the system's.
    const theme = () => { place.current.style.colorScheme = document.documentElement.classList.contains("dark") ? "dark" : "light"; };
    const observer = new MutationObserver(theme);
    observer.observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
    theme();
    kept ??= begin(place.current);
    clearTimeout(kept.timer);
    const mine = kept;
    mine.navigate = (path) => navigate(path);
    place.current.append(mine.host);
    return () => {
      observer.disconnect();
      mine.host.remove();
      mine.timer = setTimeout(() => { mine.end(); kept = null; }, LINGER);
    };
  }, []);
  return createElement("div", { ref: place, style: { height: "100%", overflow: "auto" } });
}

// By name, too: the UI imports a bundle once, and looks for an app by its own name.
globalThis.AirflowPlugin = TaxiWarehouse;
globalThis["Taxi warehouse"] = TaxiWarehouse;
