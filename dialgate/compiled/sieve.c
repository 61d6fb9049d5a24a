/* The sieve: two bits for each key. */

#include "primitives.h"
#include <stdint.h>
#include <string.h>

/* The bits that a key names are in its first eight bytes; of a shorter one, what is missing counts as nothing. */
static inline uint64_t named(PyObject *key)
{
    uint64_t word = 0;
    Py_ssize_t size = PyBytes_GET_SIZE(key);
    memcpy(&word, PyBytes_AS_STRING(key), size < 8 ? (size_t)size : 8);
    return word;
}

typedef struct {
    Py_buffer field;
    uint64_t mask;
    PyObject *keys;
} Sifting;

static int sifting(Sifting *into, PyObject *args, const char *format, int writable)
{
    PyObject *field, *keys;
    unsigned long long mask;
    if (!PyArg_ParseTuple(args, format, &field, &mask, &keys))
        return -1;
    if (PyObject_GetBuffer(field, &into->field, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) < 0)
        return -1;
    into->mask = mask;
    into->keys = PySequence_Fast(keys, "the keys are a sequence");
    int fits = into->keys != NULL && (uint64_t)into->field.len > mask >> 3;
    for (Py_ssize_t at = 0; fits && at < PySequence_Fast_GET_SIZE(into->keys); at++)
        if (!PyBytes_Check(PySequence_Fast_GET_ITEM(into->keys, at))) {
            PyErr_SetString(PyExc_TypeError, "a key is bytes");
            fits = 0;
        }
    if (fits)
        return 0;
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_IndexError, "the field is smaller than its mask says");
    PyBuffer_Release(&into->field);
    Py_XDECREF(into->keys);
    return -1;
}

PyObject *sieve_add(PyObject *Py_UNUSED(module), PyObject *args)
{
    Sifting s;
    if (sifting(&s, args, "OKO:add", 1) < 0)
        return NULL;
    uint8_t *field = s.field.buf;
    for (Py_ssize_t at = 0; at < PySequence_Fast_GET_SIZE(s.keys); at++) {
        uint64_t word = named(PySequence_Fast_GET_ITEM(s.keys, at));
        uint64_t one = word & s.mask, other = word >> 32 & s.mask;
        field[one >> 3] |= (uint8_t)(1 << (one & 7));
        field[other >> 3] |= (uint8_t)(1 << (other & 7));
    }
    PyBuffer_Release(&s.field);
    Py_DECREF(s.keys);
    Py_RETURN_NONE;
}

PyObject *sieve_passes(PyObject *Py_UNUSED(module), PyObject *args)
{
    Sifting s;
    if (sifting(&s, args, "OKO:passes", 0) < 0)
        return NULL;
    const uint8_t *field = s.field.buf;
    PyObject *passed = PyDict_New(); /* each once, in order */
    for (Py_ssize_t at = 0; passed != NULL && at < PySequence_Fast_GET_SIZE(s.keys); at++) {
        PyObject *key = PySequence_Fast_GET_ITEM(s.keys, at);
        uint64_t word = named(key);
        uint64_t one = word & s.mask, other = word >> 32 & s.mask;
        if (field[one >> 3] >> (one & 7) & field[other >> 3] >> (other & 7) & 1)
            if (PyDict_SetItem(passed, key, Py_None) < 0)
                Py_CLEAR(passed);
    }
    PyBuffer_Release(&s.field);
    Py_DECREF(s.keys);
    if (passed == NULL)
        return NULL;
    PyObject *listed = PyDict_Keys(passed);
    Py_DECREF(passed);
    return listed;
}
