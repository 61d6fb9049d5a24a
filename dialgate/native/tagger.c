/* Tagger: a look-up in a number set. lists/number_set.py describes the file format.
 * `fallback.py` is the pure-Python equivalent, for machines without a compiler. tests/native/test_primitives.py compares the
 * two. Nothing here depends on the rules or the law. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

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

/* Arguments: the file; the offsets of words, super-blocks, directory, ranks and tags (0 for the last two in a set without
 * tags); the counts of words, super-blocks and numbers. */
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
        PyErr_SetString(PyExc_IndexError, "the number set is damaged: a section lies outside the file");
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
    PyErr_SetString(PyExc_IndexError, "the number set is damaged: an offset is out of range");
    return NULL;
}

static PyObject *tag_of(Tagger *self, uint64_t place)
{
    if (place >= self->number_count)
        return outside();
    return PyLong_FromLong(self->tags[place]);
}

/* Count the set bits below bit `low` in a bitmap's group of 512. */
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
        return PyErr_Format(PyExc_TypeError, "expected exactly one number");
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
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "dialgate.native._primitives.Tagger",
    .tp_basicsize = sizeof(Tagger),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = tagger_new,
    .tp_dealloc = (destructor)tagger_free,
    .tp_call = (ternaryfunc)tagger_call,
    .tp_methods = tagger_methods,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "dialgate.native._primitives",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__primitives(void)
{
    const uint16_t order = 1;
    if (*(const uint8_t *)&order != 1) /* files are mapped and read without conversion */
        return PyErr_Format(PyExc_ImportError, "compiled for little-endian machines only");
    PyObject *made = PyModule_Create(&module);
    if (made == NULL || PyModule_AddType(made, &tagger_type) < 0) {
        Py_XDECREF(made);
        return NULL;
    }
    return made;
}
