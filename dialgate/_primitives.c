/* What is done for every call and is nothing but arithmetic on bytes: the keyed hash, the sieve, the look-up in a number
 * set, and bringing a file to the disk. `interpreted.py` says the same in Python, is what a machine without a compiler
 * runs, and is what tests/test_primitives.py holds this to. Nothing here knows what a call is. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- Keyed: BLAKE2b (RFC 7693) under a key that stays ------------------------------------------------------------- */

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

static PyTypeObject keyed_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "dialgate._primitives.Keyed",
    .tp_basicsize = sizeof(Keyed),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = keyed_new,
    .tp_dealloc = plain_free,
    .tp_methods = keyed_methods,
};

/* ---- the chain of a log, and the tree over its entries: SHA-256 (FIPS 180-4) ---------------------------------------- */

static const uint32_t K[64] = {
    0x428a2f98U, 0x71374491U, 0xb5c0fbcfU, 0xe9b5dba5U, 0x3956c25bU, 0x59f111f1U, 0x923f82a4U, 0xab1c5ed5U,
    0xd807aa98U, 0x12835b01U, 0x243185beU, 0x550c7dc3U, 0x72be5d74U, 0x80deb1feU, 0x9bdc06a7U, 0xc19bf174U,
    0xe49b69c1U, 0xefbe4786U, 0x0fc19dc6U, 0x240ca1ccU, 0x2de92c6fU, 0x4a7484aaU, 0x5cb0a9dcU, 0x76f988daU,
    0x983e5152U, 0xa831c66dU, 0xb00327c8U, 0xbf597fc7U, 0xc6e00bf3U, 0xd5a79147U, 0x06ca6351U, 0x14292967U,
    0x27b70a85U, 0x2e1b2138U, 0x4d2c6dfcU, 0x53380d13U, 0x650a7354U, 0x766a0abbU, 0x81c2c92eU, 0x92722c85U,
    0xa2bfe8a1U, 0xa81a664bU, 0xc24b8b70U, 0xc76c51a3U, 0xd192e819U, 0xd6990624U, 0xf40e3585U, 0x106aa070U,
    0x19a4c116U, 0x1e376c08U, 0x2748774cU, 0x34b0bcb5U, 0x391c0cb3U, 0x4ed8aa4aU, 0x5b9cca4fU, 0x682e6ff3U,
    0x748f82eeU, 0x78a5636fU, 0x84c87814U, 0x8cc70208U, 0x90befffaU, 0xa4506cebU, 0xbef9a3f7U, 0xc67178f2U,
};

enum { SHA_BLOCK = 64, SHA = 32 };

static inline uint32_t turn(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

static void sha_plain(uint32_t h[8], const uint8_t *at, size_t blocks)
{
    for (; blocks > 0; blocks--, at += SHA_BLOCK) {
        uint32_t w[64], s[8];
        for (int t = 0; t < 16; t++)
            w[t] = (uint32_t)at[4 * t] << 24 | (uint32_t)at[4 * t + 1] << 16 | (uint32_t)at[4 * t + 2] << 8 | at[4 * t + 3];
        for (int t = 16; t < 64; t++)
            w[t] = w[t - 16] + (turn(w[t - 15], 7) ^ turn(w[t - 15], 18) ^ w[t - 15] >> 3) + w[t - 7] +
                   (turn(w[t - 2], 17) ^ turn(w[t - 2], 19) ^ w[t - 2] >> 10);
        memcpy(s, h, sizeof s);
        for (int t = 0; t < 64; t++) {
            uint32_t one = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
                           K[t] + w[t];
            uint32_t two =
                (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            memmove(s + 1, s, 28);
            s[4] += one;
            s[0] = one + two;
        }
        for (int t = 0; t < 8; t++)
            h[t] += s[t];
    }
}

#if defined(__x86_64__) && !defined(PLAIN) /* a test has it without */
#include <cpuid.h>
#include <immintrin.h>

/* With the processor's own instructions, which hold the state as (a b e f) and (c d g h). */
__attribute__((target("sha,ssse3,sse4.1"))) static void sha_native(uint32_t h[8], const uint8_t *at, size_t blocks)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i abcd = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)h), 0xb1);
    __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(h + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(abcd, efgh, 8), cdgh = _mm_blend_epi16(efgh, abcd, 0xf0);
    for (; blocks > 0; blocks--, at += SHA_BLOCK) {
        __m128i before_abef = abef, before_cdgh = cdgh, w[4];
        for (int each = 0; each < 4; each++)
            w[each] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(at + 16 * each)), swap);
#pragma GCC unroll 16
        for (int four = 0; four < 16; four++) {
            __m128i now = w[four & 3], last = w[(four + 3) & 3];
            __m128i sum = _mm_add_epi32(now, _mm_loadu_si128((const __m128i *)(K + 4 * four)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
            if (four < 12) /* the four words that take the place of these */
                w[four & 3] = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(now, w[(four + 1) & 3]),
                                                                 _mm_alignr_epi8(last, w[(four + 2) & 3], 4)),
                                                   last);
        }
        abef = _mm_add_epi32(abef, before_abef);
        cdgh = _mm_add_epi32(cdgh, before_cdgh);
    }
    abcd = _mm_shuffle_epi32(abef, 0x1b);
    efgh = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)h, _mm_blend_epi16(abcd, efgh, 0xf0));
    _mm_storeu_si128((__m128i *)(h + 4), _mm_alignr_epi8(efgh, abcd, 8));
}

static int has_native(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(1, 0, &a, &b, &c, &d) && c >> 9 & 1 && c >> 19 & 1 &&
           __get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1;
}
#else
#define sha_native sha_plain
static int has_native(void) { return 0; }
#endif

static void (*sha_blocks)(uint32_t h[8], const uint8_t *at, size_t blocks) = sha_plain;

/* Of what stands at `first` and then at `second`; `first` is shorter than a block. */
static void sha256(const void *first, size_t before, const void *second, size_t length, uint8_t into[SHA])
{
    uint32_t h[8] = {0x6a09e667U, 0xbb67ae85U, 0x3c6ef372U, 0xa54ff53aU, 0x510e527fU, 0x9b05688cU, 0x1f83d9abU, 0x5be0cd19U};
    uint8_t block[2 * SHA_BLOCK] = {0};
    const uint8_t *at = second;
    uint64_t bits = (uint64_t)(before + length) * 8;
    size_t held = before;
    memcpy(block, first, before);
    if (held + length >= SHA_BLOCK) {
        size_t fits = SHA_BLOCK - held;
        memcpy(block + held, at, fits);
        sha_blocks(h, block, 1);
        at += fits;
        length -= fits;
        sha_blocks(h, at, length / SHA_BLOCK);
        at += length / SHA_BLOCK * SHA_BLOCK;
        length %= SHA_BLOCK;
        memset(block, 0, sizeof block);
        held = 0;
    }
    memcpy(block + held, at, length);
    held += length;
    block[held++] = 0x80;
    size_t blocks = held + 8 > SHA_BLOCK ? 2 : 1;
    for (int byte = 0; byte < 8; byte++)
        block[blocks * SHA_BLOCK - 1 - (size_t)byte] = (uint8_t)(bits >> 8 * byte);
    sha_blocks(h, block, blocks);
    for (int word = 0; word < 8; word++)
        for (int byte = 0; byte < 4; byte++)
            into[4 * word + byte] = (uint8_t)(h[word] >> (24 - 8 * byte));
}

enum { FRAME = 83, LEAST = FRAME + 2 }; /* {"hash":"<64 hex digits>","entry":<body>}\n */
static const char BEFORE[] = "{\"hash\":\"", BETWEEN[] = "\",\"entry\":";

static void frame(const uint8_t hash[SHA], char *into)
{
    memcpy(into, BEFORE, 9);
    for (int at = 0; at < SHA; at++) {
        into[9 + 2 * at] = "0123456789abcdef"[hash[at] >> 4];
        into[10 + 2 * at] = "0123456789abcdef"[hash[at] & 15];
    }
    memcpy(into + 73, BETWEEN, 10);
}

static int head_of(Py_buffer *given, uint8_t head[SHA])
{
    if (given->len == SHA)
        memcpy(head, given->buf, SHA);
    else
        PyErr_SetString(PyExc_ValueError, "a head has 32 bytes");
    return given->len == SHA ? 0 : -1;
}

/* The lines that follow `head`, and the new head. */
static PyObject *chained(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer given;
    PyObject *listed, *lines = NULL;
    if (!PyArg_ParseTuple(args, "y*O:chained", &given, &listed))
        return NULL;
    uint8_t head[SHA];
    PyObject *bodies = head_of(&given, head) < 0 ? NULL : PySequence_Fast(listed, "the bodies are a sequence");
    PyBuffer_Release(&given);
    if (bodies == NULL)
        return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(bodies), length = count * LEAST;
    for (Py_ssize_t at = 0; at < count; at++) {
        PyObject *body = PySequence_Fast_GET_ITEM(bodies, at);
        if (!PyBytes_Check(body)) {
            Py_DECREF(bodies);
            return PyErr_Format(PyExc_TypeError, "a body is bytes");
        }
        length += PyBytes_GET_SIZE(body);
    }
    lines = PyBytes_FromStringAndSize(NULL, length);
    char *into = lines == NULL ? NULL : PyBytes_AS_STRING(lines);
    for (Py_ssize_t at = 0; into != NULL && at < count; at++) {
        PyObject *body = PySequence_Fast_GET_ITEM(bodies, at);
        size_t size = (size_t)PyBytes_GET_SIZE(body);
        sha256(head, SHA, PyBytes_AS_STRING(body), size, head);
        frame(head, into);
        memcpy(into + FRAME, PyBytes_AS_STRING(body), size);
        memcpy(into + FRAME + size, "}\n", 2);
        into += LEAST + size;
    }
    Py_DECREF(bodies);
    return lines == NULL ? NULL : Py_BuildValue("(Ny#)", lines, head, (Py_ssize_t)SHA);
}

/* Of the whole lines at the beginning of `data` that follow `head`, `most` of them: the new head, the leaf of each (RFC
 * 6962, 2.1), and how many bytes they are. Others may have the interpreter meanwhile. */
static PyObject *followed(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer given, data;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "y*y*n:followed", &given, &data, &most))
        return NULL;
    uint8_t head[SHA], own[SHA];
    Py_ssize_t room = data.len / LEAST, count = 0, taken = 0;
    room = most < 0 ? 0 : most < room ? most : room;
    uint8_t *leaves = head_of(&given, head) < 0 ? NULL : PyMem_Malloc((size_t)room * SHA + 1);
    PyBuffer_Release(&given);
    if (leaves == NULL) {
        PyBuffer_Release(&data);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    const char *begin = data.buf;
    while (count < room && taken < data.len) {
        const char *line = begin + taken, *end = memchr(line, '\n', (size_t)(data.len - taken));
        char expected[FRAME];
        if (end == NULL || end - line < LEAST - 1 || end[-1] != '}')
            break;
        size_t size = (size_t)(end - line) - FRAME - 1;
        sha256(head, SHA, line + FRAME, size, own);
        frame(own, expected);
        if (memcmp(line, expected, FRAME) != 0)
            break;
        memcpy(head, own, SHA);
        sha256("", 1, line + FRAME, size, leaves + count++ * SHA);
        taken = end + 1 - begin;
    }
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    PyObject *listed = PyList_New(count);
    for (Py_ssize_t at = 0; listed != NULL && at < count; at++) {
        PyObject *leaf = PyBytes_FromStringAndSize((const char *)leaves + at * SHA, SHA);
        if (leaf == NULL)
            Py_CLEAR(listed);
        else
            PyList_SET_ITEM(listed, at, leaf);
    }
    PyMem_Free(leaves);
    return listed == NULL ? NULL : Py_BuildValue("(y#Nn)", head, (Py_ssize_t)SHA, listed, taken);
}

/* The node over each two of a level (RFC 6962, 2.1). */
static PyObject *paired(PyObject *Py_UNUSED(module), PyObject *given)
{
    PyObject *hashes = PySequence_Fast(given, "the hashes are a sequence");
    if (hashes == NULL)
        return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(hashes);
    int right = count % 2 == 0;
    for (Py_ssize_t at = 0; at < count; at++) {
        PyObject *each = PySequence_Fast_GET_ITEM(hashes, at);
        right = right && PyBytes_Check(each) && PyBytes_GET_SIZE(each) == SHA;
    }
    PyObject *nodes = right ? PyList_New(count / 2) : PyErr_Format(PyExc_ValueError, "pairs of hashes of 32 bytes");
    for (Py_ssize_t at = 0; nodes != NULL && at < count; at += 2) {
        uint8_t one[1 + SHA] = {1}, node[SHA];
        memcpy(one + 1, PyBytes_AS_STRING(PySequence_Fast_GET_ITEM(hashes, at)), SHA);
        sha256(one, sizeof one, PyBytes_AS_STRING(PySequence_Fast_GET_ITEM(hashes, at + 1)), SHA, node);
        PyObject *made = PyBytes_FromStringAndSize((const char *)node, SHA);
        if (made == NULL)
            Py_CLEAR(nodes);
        else
            PyList_SET_ITEM(nodes, at / 2, made);
    }
    Py_DECREF(hashes);
    return nodes;
}

/* ---- digits ---------------------------------------------------------------------------------------------------------- */

/* The digits 0 to 9 that stand in a text, in a row. */
static PyObject *digits(PyObject *Py_UNUSED(module), PyObject *text)
{
    if (!PyUnicode_Check(text))
        return PyErr_Format(PyExc_TypeError, "digits are looked for in a text");
    int kind = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    Py_ssize_t length = PyUnicode_GET_LENGTH(text), count = 0;
    for (Py_ssize_t at = 0; at < length; at++)
        count += PyUnicode_READ(kind, data, at) - '0' < 10U;
    PyObject *found = PyUnicode_New(count, '9');
    if (found == NULL || count == 0)
        return found;
    Py_UCS1 *into = PyUnicode_1BYTE_DATA(found);
    for (Py_ssize_t at = 0; at < length; at++) {
        Py_UCS4 each = PyUnicode_READ(kind, data, at);
        if (each - '0' < 10U)
            *into++ = (Py_UCS1)each;
    }
    return found;
}

/* ---- JSON: a name that stands twice in one object ------------------------------------------------------------------- */

enum { DEEPEST = 16, WIDEST = 64 };

/* Of a well-formed document: the name, or None. Where it takes more than is done here (an escape in a name, or too many of
 * them) it is asked in Python. Objects that lie within more than `depth` others are not looked at. Whatever
 * the bytes, nothing beyond them is read. */
static PyObject *repeated(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer body;
    int depth;
    if (!PyArg_ParseTuple(args, "y*i:repeated", &body, &depth))
        return NULL;
    struct {
        const char *begin;
        Py_ssize_t length;
    } names[WIDEST];
    int first[DEEPEST + 1], level = 0, count = 0; /* the names of the object at each level, one after the other */
    const char *at = body.buf, *end = at + body.len, *text = NULL;
    Py_ssize_t length = 0;
    PyObject *found = Py_None;
    for (; found == Py_None && at < end; at++) {
        switch (*at) {
        case '{':
            if (++level > DEEPEST)
                found = Py_NotImplemented;
            else
                first[level] = count;
            break;
        case '}':
            if (level > 0)
                count = first[level--];
            break;
        case '"':
            for (text = ++at; at < end && *at != '"'; at++)
                if (*at == '\\')
                    at++;
            length = (at < end ? at : end) - text;
            break;
        case ':':
            if (level == 0 || level > depth || text == NULL)
                break;
            if (count == WIDEST || memchr(text, '\\', (size_t)length) != NULL) {
                found = Py_NotImplemented;
                break;
            }
            for (int each = first[level]; each < count; each++)
                if (names[each].length == length && memcmp(names[each].begin, text, (size_t)length) == 0)
                    found = NULL;
            names[count].begin = text;
            names[count++].length = length;
            break;
        default:
            break;
        }
    }
    if (found == NULL)
        found = PyUnicode_DecodeUTF8(text, length, "replace");
    else if (found == Py_None)
        Py_INCREF(found);
    else {
        PyObject *plain = PyImport_ImportModule("dialgate.interpreted");
        found = plain == NULL ? NULL : PyObject_CallMethod(plain, "repeated", "Oi", PyTuple_GET_ITEM(args, 0), depth);
        Py_XDECREF(plain);
    }
    PyBuffer_Release(&body);
    return found;
}

/* ---- the sieve: two bits for each key ----------------------------------------------------------------------------- */

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

static PyObject *sieve_add(PyObject *Py_UNUSED(module), PyObject *args)
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

static PyObject *sieve_passes(PyObject *Py_UNUSED(module), PyObject *args)
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

/* ---- Tagger: a look-up in a number set, whose file is drawn in numberset.py ---------------------------------------- */

enum { DIGITS = 10000, GROUPS = 20, DENSE = GROUPS + DIGITS / 16 };

typedef struct {
    PyObject_HEAD
    Py_buffer file;
    int opened;
    const uint64_t *supers;
    const uint32_t *directory, *ranks; /* no ranks: a set without tags */
    const uint16_t *words, *tags;
    uint64_t super_count, word_count, number_count;
} Tagger;

static int within(Tagger *self, unsigned long long at, uint64_t items, size_t size)
{
    uint64_t length = (uint64_t)self->file.len;
    return at % size == 0 && at <= length && items <= (length - at) / size;
}

/* The file; where words, super-blocks, directory, ranks and tags begin (0: none of the last two); how many words,
 * super-blocks and numbers there are. */
static PyObject *tagger_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(named))
{
    PyObject *file;
    unsigned long long words, supers, directory, ranks, tags, word_count, super_count, number_count;
    if (!PyArg_ParseTuple(args, "OKKKKKKKK:Tagger", &file, &words, &supers, &directory, &ranks, &tags, &word_count,
                          &super_count, &number_count))
        return NULL;
    Tagger *self = (Tagger *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    if (PyObject_GetBuffer(file, &self->file, PyBUF_SIMPLE) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->opened = 1;
    uint64_t entries = super_count * 256 + 1;
    if (super_count > UINT32_MAX || !within(self, words, word_count, 2) || !within(self, supers, super_count, 8) ||
        !within(self, directory, entries, 4) || (ranks && !within(self, ranks, entries, 4)) ||
        (tags && !within(self, tags, number_count, 2)) || !ranks != !tags) {
        Py_DECREF(self);
        PyErr_SetString(PyExc_IndexError, "a part of the set lies outside of its file");
        return NULL;
    }
    const char *begin = self->file.buf;
    self->words = (const uint16_t *)(begin + words);
    self->supers = (const uint64_t *)(begin + supers);
    self->directory = (const uint32_t *)(begin + directory);
    self->ranks = ranks ? (const uint32_t *)(begin + ranks) : NULL;
    self->tags = tags ? (const uint16_t *)(begin + tags) : NULL;
    self->word_count = word_count;
    self->super_count = super_count;
    self->number_count = number_count;
    return (PyObject *)self;
}

static PyObject *outside(void)
{
    PyErr_SetString(PyExc_IndexError, "an offset of the set points outside of it");
    return NULL;
}

static PyObject *tag_of(Tagger *self, uint64_t place)
{
    if (place >= self->number_count)
        return outside();
    return PyLong_FromLong(self->tags[place]);
}

/* How many bits are set of a bitmap's group of 512, below bit `low`. */
static uint64_t below(const uint8_t *group, unsigned low)
{
    uint64_t count = 0, word = 0;
    unsigned at = 0;
    for (; at + 64 <= low; at += 64, group += 8) {
        memcpy(&word, group, 8);
        count += (uint64_t)__builtin_popcountll(word);
    }
    for (; at < low; at++)
        count += group[(at & 63) >> 3] >> (at & 7) & 1;
    return count;
}

static PyObject *tagger_call(Tagger *self, PyObject *args, PyObject *Py_UNUSED(named))
{
    if (!self->opened) {
        PyErr_SetString(PyExc_ValueError, "the number set is closed");
        return NULL;
    }
    if (PyTuple_GET_SIZE(args) != 1)
        return PyErr_Format(PyExc_TypeError, "one number is looked up at a time");
    int over;
    long long number = PyLong_AsLongLongAndOverflow(PyTuple_GET_ITEM(args, 0), &over);
    if (number == -1 && PyErr_Occurred())
        return NULL;
    if (over || number < 0)
        return PyLong_FromLong(-1);
    uint64_t block = (uint64_t)number / DIGITS, super = block >> 8, from = 0, until = self->super_count;
    unsigned low = (unsigned)((uint64_t)number % DIGITS);
    while (from < until) {
        uint64_t middle = (from + until) / 2;
        if (self->supers[middle] < super)
            from = middle + 1;
        else
            until = middle;
    }
    if (from == self->super_count || self->supers[from] != super)
        return PyLong_FromLong(-1);
    uint64_t at = from * 256 + (block & 255);
    uint64_t begin = self->directory[at], end = self->directory[at + 1];
    if (begin > end || end > self->word_count)
        return outside();
    const uint16_t *words = self->words + begin;
    if (end - begin == DENSE) {
        if (!(words[GROUPS + (low >> 4)] >> (low & 15) & 1))
            return PyLong_FromLong(-1);
        if (self->tags == NULL)
            return PyLong_FromLong(0);
        uint64_t before = below((const uint8_t *)(words + GROUPS) + (low >> 9) * 64, low & 511);
        return tag_of(self, (uint64_t)self->ranks[at] + words[low >> 9] + before);
    }
    uint64_t first = 0, last = end - begin;
    while (first < last) {
        uint64_t middle = (first + last) / 2;
        if (words[middle] < low)
            first = middle + 1;
        else
            last = middle;
    }
    if (first == end - begin || words[first] != low)
        return PyLong_FromLong(-1);
    return self->tags == NULL ? PyLong_FromLong(0) : tag_of(self, (uint64_t)self->ranks[at] + first);
}

static PyObject *tagger_close(Tagger *self, PyObject *Py_UNUSED(nothing))
{
    if (self->opened)
        PyBuffer_Release(&self->file);
    self->opened = 0;
    Py_RETURN_NONE;
}

static void tagger_free(Tagger *self)
{
    if (self->opened)
        PyBuffer_Release(&self->file);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef tagger_methods[] = {
    {"close", (PyCFunction)tagger_close, METH_NOARGS, NULL},
    {NULL},
};

static PyTypeObject tagger_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "dialgate._primitives.Tagger",
    .tp_basicsize = sizeof(Tagger),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = tagger_new,
    .tp_dealloc = (destructor)tagger_free,
    .tp_call = (ternaryfunc)tagger_call,
    .tp_methods = tagger_methods,
};

/* ---- Syncer: fdatasync in a thread that never asks for the interpreter -------------------------------------------- */

enum { AT_ONCE = 1024 };

typedef struct {
    unsigned long long ticket;
    int fd, error;
} Sync;

typedef struct {
    PyObject_HEAD
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t asked;
    int running, stopping, told_by;
    /* Rings: what is asked is between `begun` and `taken`, what is done between `done` and `begun`. */
    Sync syncs[AT_ONCE];
    unsigned done, begun, taken;
} Syncer;

static void *sync_all(void *given)
{
    Syncer *self = given;
    pthread_mutex_lock(&self->lock);
    for (;;) {
        while (self->begun == self->taken && !self->stopping)
            pthread_cond_wait(&self->asked, &self->lock);
        if (self->begun == self->taken)
            break;
        Sync *next = &self->syncs[self->begun % AT_ONCE];
        pthread_mutex_unlock(&self->lock);
        next->error = fdatasync(next->fd) < 0 ? errno : 0;
        close(next->fd);
        pthread_mutex_lock(&self->lock);
        self->begun++;
        uint64_t one = 1;
        while (write(self->told_by, &one, sizeof one) < 0 && errno == EINTR)
            ;
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

static PyObject *syncer_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(named))
{
    Syncer *self = (Syncer *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->told_by = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->told_by < 0) {
        Py_DECREF(self);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->asked, NULL);
    sigset_t all, before; /* a signal is the main thread's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&self->thread, NULL, sync_all, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        close(self->told_by);
        Py_DECREF(self);
        errno = failed;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    self->running = 1;
    return (PyObject *)self;
}

static void end(Syncer *self)
{
    pthread_mutex_lock(&self->lock);
    self->stopping = 1;
    pthread_cond_signal(&self->asked);
    pthread_mutex_unlock(&self->lock);
    Py_BEGIN_ALLOW_THREADS
    pthread_join(self->thread, NULL);
    Py_END_ALLOW_THREADS
    close(self->told_by);
    self->running = 0;
}

static PyObject *refused(void) { return PyErr_Format(PyExc_ValueError, "it is closed"); }

static PyObject *syncer_fileno(Syncer *self, PyObject *Py_UNUSED(nothing))
{
    return self->running ? PyLong_FromLong(self->told_by) : refused();
}

static PyObject *syncer_begin(Syncer *self, PyObject *args)
{
    int fd;
    unsigned long long ticket;
    if (!PyArg_ParseTuple(args, "iK:begin", &fd, &ticket))
        return NULL;
    if (!self->running)
        return refused();
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    pthread_mutex_lock(&self->lock); /* never held for long */
    int full = self->taken - self->done == AT_ONCE;
    if (!full) {
        self->syncs[self->taken++ % AT_ONCE] = (Sync){ticket, own, 0};
        pthread_cond_signal(&self->asked);
    }
    pthread_mutex_unlock(&self->lock);
    if (full) {
        close(own);
        errno = EAGAIN;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *syncer_done(Syncer *self, PyObject *Py_UNUSED(nothing))
{
    if (!self->running)
        return refused();
    uint64_t count;
    if (read(self->told_by, &count, sizeof count) < 0 && errno != EAGAIN && errno != EINTR)
        return PyErr_SetFromErrno(PyExc_OSError);
    pthread_mutex_lock(&self->lock);
    unsigned until = self->begun; /* what lies before it the thread does not touch any more */
    pthread_mutex_unlock(&self->lock);
    PyObject *told = PyList_New(0);
    for (unsigned at = self->done; told != NULL && at != until; at++) {
        Sync *each = &self->syncs[at % AT_ONCE];
        PyObject *pair = Py_BuildValue("(Ki)", each->ticket, each->error);
        if (pair == NULL || PyList_Append(told, pair) < 0)
            Py_CLEAR(told);
        Py_XDECREF(pair);
    }
    if (told != NULL) {
        pthread_mutex_lock(&self->lock);
        self->done = until;
        pthread_mutex_unlock(&self->lock);
    }
    return told;
}

static PyObject *syncer_close(Syncer *self, PyObject *Py_UNUSED(nothing))
{
    if (self->running)
        end(self);
    Py_RETURN_NONE;
}

static void syncer_free(Syncer *self)
{
    if (self->running)
        end(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef syncer_methods[] = {
    {"fileno", (PyCFunction)syncer_fileno, METH_NOARGS, NULL},
    {"begin", (PyCFunction)syncer_begin, METH_VARARGS, NULL},
    {"done", (PyCFunction)syncer_done, METH_NOARGS, NULL},
    {"close", (PyCFunction)syncer_close, METH_NOARGS, NULL},
    {NULL},
};

static PyTypeObject syncer_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "dialgate._primitives.Syncer",
    .tp_basicsize = sizeof(Syncer),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = syncer_new,
    .tp_dealloc = (destructor)syncer_free,
    .tp_methods = syncer_methods,
};

/* ---- the module ---------------------------------------------------------------------------------------------------- */

static PyMethodDef functions[] = {
    {"add", sieve_add, METH_VARARGS, NULL},
    {"chained", chained, METH_VARARGS, NULL},
    {"followed", followed, METH_VARARGS, NULL},
    {"paired", paired, METH_O, NULL},
    {"digits", digits, METH_O, NULL},
    {"passes", sieve_passes, METH_VARARGS, NULL},
    {"repeated", repeated, METH_VARARGS, NULL},
    {NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "dialgate._primitives",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__primitives(void)
{
    const uint16_t order = 1;
    if (*(const uint8_t *)&order != 1) /* hash and files are read as they lie in memory */
        return PyErr_Format(PyExc_ImportError, "compiled for little-endian machines only");
    sha_blocks = has_native() ? sha_native : sha_plain;
    PyObject *made = PyModule_Create(&module);
    if (made == NULL || PyModule_AddType(made, &keyed_type) < 0 || PyModule_AddType(made, &tagger_type) < 0 ||
        PyModule_AddType(made, &syncer_type) < 0) {
        Py_XDECREF(made);
        return NULL;
    }
    return made;
}
