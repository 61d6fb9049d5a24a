#include "primitives.h"
#include <stdint.h>

static PyMethodDef functions[] = {
    {"chained", chained, METH_VARARGS, NULL},
    {"followed", followed, METH_VARARGS, NULL},
    {"paired", paired, METH_O, NULL},
    {"digits", digits, METH_O, NULL},
    {NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "dialgate.native._primitives",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__primitives(void)
{
    const uint16_t order = 1;
    if (*(const uint8_t *)&order != 1) /* files are mapped and read without conversion */
        return PyErr_Format(PyExc_ImportError, "compiled for little-endian machines only");
    choose_hash();
    PyObject *made = PyModule_Create(&module);
    if (made == NULL || PyModule_AddType(made, &tagger_type) < 0) {
        Py_XDECREF(made);
        return NULL;
    }
    return made;
}
