/* Keyed: BLAKE2b (RFC 7693) under a key that stays. */

#include "primitives.h"
#include <stdint.h>
#include <string.h>

enum { BLOCK = 128, MOST = 64 };

static const uint64_t IV[8] = {
    0x6a09e667f3bcc908U, 0xbb67ae8584caa73bU, 0x3c6ef372fe94f82bU, 0xa54ff53a5f1d36f1U,
    0x510e527fade682d1U, 0x9b05688c2b3e6c1fU, 0x1f83d9abfb41bd6bU, 0x5be0cd19137e2179U,
};

static const uint8_t SIGMA[12][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
};

static inline uint64_t right(uint64_t word, int bits) { return word >> bits | word << (64 - bits); }

static inline void mix(uint64_t v[16], int a, int b, int c, int d, uint64_t x, uint64_t y)
{
    v[a] += v[b] + x;
    v[d] = right(v[d] ^ v[a], 32);
    v[c] += v[d];
    v[b] = right(v[b] ^ v[c], 24);
    v[a] += v[b] + y;
    v[d] = right(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = right(v[b] ^ v[c], 63);
}

/* `total`: bytes hashed once this block is in. */
static void compress(uint64_t h[8], const uint8_t *block, uint64_t total, int last)
{
    uint64_t m[16], v[16];
    memcpy(m, block, BLOCK); /* little-endian: see `PyInit__primitives` */
    memcpy(v, h, 64);
    memcpy(v + 8, IV, 64);
    v[12] ^= total;
    if (last)
        v[14] = ~v[14];
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = SIGMA[round];
        mix(v, 0, 4, 8, 12, m[s[0]], m[s[1]]);
        mix(v, 1, 5, 9, 13, m[s[2]], m[s[3]]);
        mix(v, 2, 6, 10, 14, m[s[4]], m[s[5]]);
        mix(v, 3, 7, 11, 15, m[s[6]], m[s[7]]);
        mix(v, 0, 5, 10, 15, m[s[8]], m[s[9]]);
        mix(v, 1, 6, 11, 12, m[s[10]], m[s[11]]);
        mix(v, 2, 7, 8, 13, m[s[12]], m[s[13]]);
        mix(v, 3, 4, 9, 14, m[s[14]], m[s[15]]);
    }
    for (int at = 0; at < 8; at++)
        h[at] ^= v[at] ^ v[at + 8];
}

typedef struct {
    PyObject_HEAD
    Py_ssize_t size;
    uint64_t empty[8]; /* the hash of nothing, and the state after the key, which fills the first block */
    uint64_t keyed[8];
} Keyed;

static PyObject *keyed_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(named))
{
    Py_buffer key;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "y*n:Keyed", &key, &size))
        return NULL;
    if (key.len < 1 || key.len > MOST || size < 1 || size > MOST) {
        PyBuffer_Release(&key);
        PyErr_SetString(PyExc_ValueError, "a key of 1 to 64 bytes, and a hash of 1 to 64");
        return NULL;
    }
    Keyed *self = (Keyed *)type->tp_alloc(type, 0);
    if (self != NULL) {
        uint8_t block[BLOCK] = {0};
        memcpy(block, key.buf, (size_t)key.len);
        self->size = size;
        memcpy(self->keyed, IV, 64);
        self->keyed[0] ^= 0x01010000U ^ (uint64_t)key.len << 8 ^ (uint64_t)size;
        memcpy(self->empty, self->keyed, 64);
        compress(self->empty, block, BLOCK, 1);
        compress(self->keyed, block, BLOCK, 0);
    }
    PyBuffer_Release(&key);
    return (PyObject *)self;
}

static int hashed(Keyed *self, PyObject *content, uint64_t h[8])
{
    Py_buffer data;
    if (PyObject_GetBuffer(content, &data, PyBUF_SIMPLE) < 0)
        return -1;
    if (data.len == 0) {
        memcpy(h, self->empty, 64);
    } else {
        const uint8_t *at = data.buf;
        Py_ssize_t left = data.len;
        uint64_t total = BLOCK;
        memcpy(h, self->keyed, 64);
        for (; left > BLOCK; left -= BLOCK, at += BLOCK)
            compress(h, at, total += BLOCK, 0);
        uint8_t block[BLOCK] = {0};
        memcpy(block, at, (size_t)left);
        compress(h, block, total + (uint64_t)left, 1);
    }
    PyBuffer_Release(&data);
    return 0;
}

static PyObject *keyed_digest(Keyed *self, PyObject *content)
{
    uint64_t h[8];
    return hashed(self, content, h) < 0 ? NULL : PyBytes_FromStringAndSize((const char *)h, self->size);
}

static void plain_free(PyObject *self) { Py_TYPE(self)->tp_free(self); }

/* `value`, as long as the hash, under the hash of `content` as a mask; the same again takes the mask off. */
static PyObject *keyed_masked(Keyed *self, PyObject *args)
{
    Py_buffer value;
    PyObject *content;
    if (!PyArg_ParseTuple(args, "y*O:masked", &value, &content))
        return NULL;
    uint64_t h[8];
    int right = value.len == self->size;
    if (!right)
        PyErr_SetString(PyExc_ValueError, "what is masked is as long as the hash");
    right = right && hashed(self, content, h) == 0;
    for (Py_ssize_t at = 0; right && at < self->size; at++)
        ((char *)h)[at] ^= ((const char *)value.buf)[at];
    PyBuffer_Release(&value);
    return right ? PyBytes_FromStringAndSize((const char *)h, self->size) : NULL;
}

static PyMethodDef keyed_methods[] = {
    {"digest", (PyCFunction)keyed_digest, METH_O, NULL},
    {"masked", (PyCFunction)keyed_masked, METH_VARARGS, NULL},
    {NULL},
};

PyTypeObject keyed_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "dialgate._primitives.Keyed",
    .tp_basicsize = sizeof(Keyed),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = keyed_new,
    .tp_dealloc = plain_free,
    .tp_methods = keyed_methods,
};
