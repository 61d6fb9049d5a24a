"""The pages at `/console`: their words, their templates, and what moves on them. Everything a browser needs is in this
package; nothing is built, and nothing is fetched from elsewhere. `dialgate.interfaces.console.routes` serves it."""
