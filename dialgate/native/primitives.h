/* The compiled primitives: the parts of every decision that are only arithmetic on bytes (the look-up in a number set, the
 * chain of the log).
 * `fallback.py` is the pure-Python equivalent, for machines without a compiler. tests/native/test_primitives.py compares the
 * two. Nothing here depends on the rules or the law. */

#ifndef DIALGATE_PRIMITIVES_H
#define DIALGATE_PRIMITIVES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyTypeObject tagger_type;

PyObject *chained(PyObject *module, PyObject *args);
PyObject *followed(PyObject *module, PyObject *args);
PyObject *paired(PyObject *module, PyObject *hashes);
PyObject *digits(PyObject *module, PyObject *text);

void choose_hash(void); /* once, before the first hash of a chain */

#endif
