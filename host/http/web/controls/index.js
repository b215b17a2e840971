// controls/index.js - which control a field of the schema gets.
//
// A control is {element, show(value), busy?, range?, midi?}. It calls env.set(value) when a person
// changes it. env is {label, name, id, set, app, plain?}: `plain` ones draw no label of their own.
import {number, seed} from "./number.js";
import {toggle, select, text} from "./simple.js";
import {list, object} from "./list.js";
import {prompts, isPrompts} from "./prompts.js";
import {asset, assetKind} from "./asset.js";

export function controlFor(schema, env) {
	if (schema.enum)
		return select(schema, env);
	switch (schema.type) {
	case "boolean":
		return toggle(schema, env);
	case "integer":
	case "number":
		return schema.type === "integer" && (schema.ui?.component === "seed" || /(^|_)seed$/.test(env.name)) ? seed(schema, env) : number(schema, env);
	case "array":
		return isPrompts(schema) ? prompts(schema, env) : list(schema, env);
	case "object":
		return object(schema, env);
	default:
		return assetKind(env.name, schema, env.parent) ? asset(schema, env) : text(schema, env);
	}
}

// The properties that are shown, in order: [name, schema].
export const shown = (properties) => Object.entries(properties ?? {}).filter(([, s]) => s.ui)
	.sort(([a, x], [b, y]) => (x.ui.order ?? 999) - (y.ui.order ?? 999) || (a < b ? -1 : 1));

// Every property of an element of a list: there, those without `ui` are needed, too.
export const inner = (properties) => Object.entries(properties ?? {})
	.sort(([, x], [, y]) => (x.ui?.order ?? 999) - (y.ui?.order ?? 999));
