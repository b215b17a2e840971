// api.js - the server's REST interface: JSON in and out, errors as sentences.
import {h} from "./dom.js";

const root = new URL(".", document.baseURI);
let token = null;
try {
	token = sessionStorage.getItem("scope.token");
} catch { /* asked for again after a reload */ }

export class ApiError extends Error {
	constructor(status, body) {
		super(body?.error ?? `The server answered ${status}.`);
		this.status = status;
	}
}

export const url = (path) => new URL(path, root).href;

// An address that a link, an <img> or a WebSocket can use: those cannot send headers.
export function openUrl(path, query = {}) {
	const u = new URL(path, root);
	for (const [k, v] of Object.entries(query))
		u.searchParams.set(k, v);
	if (token)
		u.searchParams.set("access_token", token);
	return u.href;
}

export const socketUrl = (path, query) => openUrl(path, query).replace(/^http/, "ws");

export const seg = encodeURIComponent;

async function once(method, path, {json, body, type}) {
	const headers = {};
	if (token)
		headers.Authorization = `Bearer ${token}`;
	if (json !== undefined)
		headers["Content-Type"] = "application/json";
	else if (body !== undefined && type)
		headers["Content-Type"] = type;
	try {
		return await fetch(url(path), {method, headers, body: json !== undefined ? JSON.stringify(json) : body});
	} catch {
		throw new ApiError(0, {error: "The server does not answer."});
	}
}

let asking = null;
function askToken(said) {
	asking ??= new Promise((done) => {
		const field = h("input", {type: "password", required: true, autocomplete: "current-password", id: "token"});
		const dialog = h("dialog.ask", {"aria-labelledby": "token-title"}, h("form", {method: "dialog", onsubmit: () => {
			token = field.value.trim();
			try {
				sessionStorage.setItem("scope.token", token);
			} catch { /* holds until the page is closed */ }
		}}, h("h2", {id: "token-title"}, "This server asks for a token"), h("p", said),
		h("label", {htmlFor: "token"}, "Token"), field, h("button.primary", "Go on")));
		dialog.addEventListener("cancel", (e) => e.preventDefault());
		dialog.addEventListener("close", () => { dialog.remove(); asking = null; done(); });
		document.body.append(dialog);
		dialog.showModal();
	});
	return asking;
}

// The answer's JSON (or null where it has none); throws ApiError. A 401 asks for the token.
export async function call(method, path, options = {}) {
	for (;;) {
		const answer = await once(method, path, options);
		const text = await answer.text();
		let body = null;
		try {
			body = text ? JSON.parse(text) : null;
		} catch { /* a proxy's page */ }
		if (answer.ok)
			return body;
		if (answer.status !== 401)
			throw new ApiError(answer.status, body);
		await askToken(token ? "The one given is not right." : "It is printed where the server was started.");
	}
}

// The list in an answer like {"streams": [...]}.
export const listOf = (answer) => Object.values(answer ?? {}).find(Array.isArray) ?? [];
