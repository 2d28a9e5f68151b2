// Airflow 3's component: a React frame around the page, which has no framework. React is the UI's own; nothing is built.

import { mount } from "./warehouse.js";

const { createElement, useEffect, useRef } = globalThis.React;
const base = new URL("..", import.meta.url).pathname.replace(/\/$/, "");
const airflowBase = base.replace(/\/nyc-taxi\/warehouse$/, "");

function TaxiWarehouse() {
  const place = useRef(null);
  const navigate = globalThis.ReactRouterDOM.useNavigate();
  useEffect(() => {
    // The page's own colours follow the UI's switch, not the system's.
    const theme = () => { place.current.style.colorScheme = document.documentElement.classList.contains("dark") ? "dark" : "light"; };
    const observer = new MutationObserver(theme);
    observer.observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
    theme();
    const end = mount(place.current, { base, airflowBase, airflow: 3, navigate: (path) => navigate(path), csrf: null });
    return () => { observer.disconnect(); end(); };
  }, []);
  return createElement("div", { ref: place, style: { height: "100%", overflow: "auto" } });
}

// By name, too: the UI imports a bundle once, and looks for an app by its own name.
globalThis.AirflowPlugin = TaxiWarehouse;
globalThis["Taxi warehouse"] = TaxiWarehouse;
