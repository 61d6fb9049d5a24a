/* The bits of a key filter (store/key_filter.py): four for each key, in a field whose length is a power of two. */

#include "primitives.h"
#include <stdint.h>

enum { BITS = 4 };

typedef struct {
    Py_buffer field;
    uint8_t *bytes;
    uint64_t mask;
    PyObject *keys; /* a list or tuple */
} Probe;

static int open_probe(Probe *probe, PyObject *args, int writable)
{
    PyObject *field, *keys;
    if (!PyArg_ParseTuple(args, "OO", &field, &keys) ||
        PyObject_GetBuffer(field, &probe->field, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) < 0)
        return -1;
    uint64_t length = (uint64_t)probe->field.len;
    probe->bytes = probe->field.buf;
    probe->mask = length - 1;
    if (length == 0 || length & (length - 1))
        PyErr_SetString(PyExc_ValueError, "the length of the field is not a power of two");
    else if ((probe->keys = PySequence_Fast(keys, "`keys` must be a sequence")) != NULL)
        return 0;
    PyBuffer_Release(&probe->field);
    return -1;
}

static void close_probe(Probe *probe)
{
    Py_DECREF(probe->keys);
    PyBuffer_Release(&probe->field);
}

/* Python's hash, because a bytes object caches it and dictionaries with the same keys need it anyway. -1 is an error. */
static Py_hash_t hash_at(const Probe *probe, Py_ssize_t place)
{
    return PyObject_Hash(PySequence_Fast_GET_ITEM(probe->keys, place));
}

/* The place of a key's next bit. Its low half is the place, its high half the distance to the next one. */
static uint64_t next_bit(uint64_t hash) { return (hash & ~(uint64_t)UINT32_MAX) | (uint32_t)(hash + (hash >> 32 | 1)); }

static uint8_t *byte_of(const Probe *probe, uint64_t bit) { return probe->bytes + ((uint32_t)bit >> 3 & probe->mask); }

static int has_all(const Probe *probe, uint64_t bit)
{
    for (int number = 0; number < BITS; number++, bit = next_bit(bit))
        if (!(*byte_of(probe, bit) >> (bit & 7) & 1))
            return 0;
    return 1;
}

PyObject *add_keys(PyObject *Py_UNUSED(module), PyObject *args)
{
    Probe probe;
    if (open_probe(&probe, args, 1) < 0)
        return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(probe.keys), place = 0;
    for (; place < count; place++) {
        Py_hash_t hashed = hash_at(&probe, place);
        if (hashed == -1)
            break;
        uint64_t bit = (uint64_t)hashed;
        for (int number = 0; number < BITS; number++, bit = next_bit(bit))
            *byte_of(&probe, bit) |= (uint8_t)(1 << (bit & 7));
    }
    close_probe(&probe);
    return place < count ? NULL : Py_NewRef(Py_None);
}

PyObject *select_keys(PyObject *Py_UNUSED(module), PyObject *args)
{
    Probe probe;
    if (open_probe(&probe, args, 0) < 0)
        return NULL;
    PyObject *selected = PyList_New(0);
    Py_ssize_t count = selected == NULL ? 0 : PySequence_Fast_GET_SIZE(probe.keys);
    for (Py_ssize_t place = 0; place < count; place++) {
        Py_hash_t hashed = hash_at(&probe, place);
        if (hashed != -1 && !has_all(&probe, (uint64_t)hashed))
            continue;
        if (hashed == -1 || PyList_Append(selected, PySequence_Fast_GET_ITEM(probe.keys, place)) < 0) {
            Py_CLEAR(selected);
            break;
        }
    }
    close_probe(&probe);
    return selected;
}
