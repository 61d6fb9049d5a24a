/* What is done for every call and is nothing but arithmetic on bytes: the look-up in a number set, the chain of the log, and
 * bringing a file to the disk.
 * `fallback.py` says the same in Python, is what a machine without a compiler runs, and is what
 * tests/native/test_primitives.py holds this to. Nothing here knows what a call is. */

#ifndef DIALGATE_PRIMITIVES_H
#define DIALGATE_PRIMITIVES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyTypeObject tagger_type, syncer_type;

PyObject *add_keys(PyObject *module, PyObject *args);
PyObject *select_keys(PyObject *module, PyObject *args);
PyObject *chained(PyObject *module, PyObject *args);
PyObject *followed(PyObject *module, PyObject *args);
PyObject *paired(PyObject *module, PyObject *hashes);
PyObject *digits(PyObject *module, PyObject *text);
PyObject *repeated(PyObject *module, PyObject *args);

void choose_hash(void); /* once, before the first hash of a chain */

#endif
